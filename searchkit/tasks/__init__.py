"""Tasks: data with labels, in splits that are never mixed. The names load on first use, datasets and pandas later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from searchkit._internal.checks import lazy_names

if TYPE_CHECKING:
    from searchkit.tasks.answers import Answers
    from searchkit.tasks.base import Encoded, Tables, Task
    from searchkit.tasks.classification import TextClassification
    from searchkit.tasks.generated import Generated
    from searchkit.tasks.generated_questions import GeneratedQuestions
    from searchkit.tasks.question_answering import QuestionAnswering
    from searchkit.tasks.regression import TextRegression
    from searchkit.tasks.spans import best_answers
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
    "best_answers": "spans",
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


__getattr__, __dir__ = lazy_names(__name__, _HOME)
