"""Tasks: data with labels, in splits that are never mixed. The names load on first use, datasets and pandas later."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from searchkit.tasks.answers import Answers, best_answers
    from searchkit.tasks.base import Encoded, Tables, Task
    from searchkit.tasks.classification import TextClassification
    from searchkit.tasks.generated import Generated
    from searchkit.tasks.generated_questions import GeneratedQuestions
    from searchkit.tasks.question_answering import QuestionAnswering
    from searchkit.tasks.regression import TextRegression
    from searchkit.tasks.words import word_tokenizer

_HOME: Final[dict[str, str]] = {
    "Answers": "answers",
    "Encoded": "base",
    "Generated": "generated",
    "GeneratedQuestions": "generated_questions",
    "QuestionAnswering": "question_answering",
    "Tables": "base",
    "Task": "base",
    "TextClassification": "classification",
    "TextRegression": "regression",
    "best_answers": "answers",
    "word_tokenizer": "words",
}
__all__ = [
    "Answers",
    "Encoded",
    "Generated",
    "GeneratedQuestions",
    "QuestionAnswering",
    "Tables",
    "Task",
    "TextClassification",
    "TextRegression",
    "best_answers",
    "word_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'searchkit.tasks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"searchkit.tasks.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
