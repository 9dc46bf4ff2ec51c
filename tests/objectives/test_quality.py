"""Quality objectives on stand-in subjects with chosen outputs, against libraries and formulas other than our own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from objectives import OBJECTIVES, accuracy, exact_match, f1, macro_f1, matthews, mse, pearson, spearman
from objectives.answers import squad_scores
from searchkit.errors import StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.passes import Passes
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.subject import SupernetSubject
from searchkit.evaluate.trial import measure
from searchkit.records import Ask, Candidate, Failed
from searchkit.reduction.plan import ReductionPlan
from searchkit.tasks import Encoded, GeneratedQuestions, best_answers, word_tokenizer
from searchkit.tasks.spans import Spans
from searchkit.tasks.windows import encode_questions
from searchkit.training import FineTune
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet

HEADS = {
    "classification": (accuracy, macro_f1, matthews),
    "regression": (mse, pearson, spearman),
    "question_answering": (exact_match, f1),
}
WORDS = word_tokenizer(["a", "b", "c", "d", "what"])


@dataclass(frozen=True, eq=False)
class Told(SupernetSubject):
    """A subject whose outputs are given."""

    told: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 1), dtype=np.float32))
    asked: list[int] = field(default_factory=list)

    @property
    def passes(self) -> Any:  # type: ignore[override]
        self.asked.append(1)
        return Passes(torch.as_tensor(self.told), None)  # type: ignore[arg-type]


def bench(head: str, data: Encoded, outputs: int = 2) -> SupernetBench:
    supernet = Supernet(Scratch(layers=1, width=4, heads=1, feed_forward=4), FineTune())
    model = supernet.build(
        WORDS, labels=[str(number) for number in range(outputs)], max_length=16, seed=0, head=head
    ).eval()
    return SupernetBench(PlanRunner(model, FineTune()), data, padded_to=16, token_budget=64)


def told(head: str, labels: NDArray[Any], outputs: NDArray[Any]) -> Told:
    """One-token examples with these labels, and a model with these (N, C) outputs."""
    n = len(labels)
    data = Encoded(np.full(n, 2, np.int32), np.zeros(n, np.int32), np.arange(n + 1, dtype=np.int64), labels)
    width = outputs.shape[1]
    return Told(bench(head, data, width), Candidate.of(), ReductionPlan.unreduced(1), told=outputs.astype(np.float32))


def classes(right: list[int], predicted: list[int], count: int = 4) -> Told:
    return told("classification", np.array(right, dtype=np.int64), np.eye(count)[predicted])


def numbers(right: list[float], predicted: list[float]) -> Told:
    return told("regression", np.array(right, dtype=np.float32), np.array(predicted)[:, None])


@pytest.mark.filterwarnings("ignore:A single label was found")  # by scikit-learn, of which the expected values are
@given(st.sampled_from([2, 4]), st.data())
@settings(max_examples=25, deadline=None)
def test_scores_of_classes_are_those_of_scikit_learn(count: int, data: st.DataObject) -> None:
    one = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(one, one), min_size=2, max_size=30))
    right, predicted = (list(column) for column in zip(*pairs, strict=True))
    subject = classes(right, predicted, count)
    assert macro_f1.measure(subject).value == pytest.approx(
        metrics.f1_score(right, predicted, average="macro", zero_division=0), abs=1e-6
    )
    assert matthews.measure(subject).value == pytest.approx(metrics.matthews_corrcoef(right, predicted), abs=1e-6)
    assert accuracy.measure(subject).value == pytest.approx(metrics.accuracy_score(right, predicted))


def test_scores_of_numbers_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    right = rng.normal(size=60).round(1)  # with ties
    predicted = (right + rng.normal(size=60)).round(1)
    subject = numbers(right.tolist(), predicted.tolist())
    assert pearson.measure(subject).value == pytest.approx(stats.pearsonr(predicted, right).statistic, abs=1e-5)
    assert spearman.measure(subject).value == pytest.approx(stats.spearmanr(predicted, right).statistic, abs=1e-5)
    estimate = mse.measure(subject)
    assert estimate.value == pytest.approx(metrics.mean_squared_error(right, predicted), rel=1e-5)
    assert estimate.standard_error == pytest.approx(stats.sem((predicted - right) ** 2), rel=1e-4)
    assert estimate.n == 60


def test_the_bootstrap_error_of_a_correlation_is_near_the_known_one() -> None:
    rng = np.random.default_rng(1)
    right = rng.normal(size=2000)
    predicted = 0.6 * right + 0.8 * rng.normal(size=2000)  # correlation 0.6
    estimate = pearson.measure(numbers(right.tolist(), predicted.tolist()))
    assert estimate.standard_error == pytest.approx((1 - 0.6**2) / math.sqrt(2000), rel=0.2)  # of bivariate normals
    again = pearson.measure(numbers(right.tolist(), predicted.tolist()))
    assert again == estimate


def test_the_bootstrap_error_of_balanced_matthews_is_that_of_accuracy_twice() -> None:
    rng = np.random.default_rng(2)
    right = np.arange(2000) % 2
    predicted = np.where(rng.random(2000) < 0.8, right, 1 - right)
    subject = classes(right.tolist(), predicted.tolist(), count=2)
    error = accuracy.measure(subject).standard_error
    assert error is not None
    # with two balanced classes and alike errors the coefficient is 2 accuracy - 1
    assert matthews.measure(subject).standard_error == pytest.approx(2 * error, rel=0.2)
    assert macro_f1.measure(subject).standard_error == pytest.approx(error, rel=0.2)


@pytest.mark.parametrize("objective", [pearson, spearman])
@pytest.mark.parametrize(
    ("right", "predicted", "constant"),
    [
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "its 3 predictions are all 5"),
        ([2.0, 2.0], [0.1, 0.2], "its 2 labels are all 2"),
        ([2.5], [0.1], "its 1 labels are all 2.5"),
    ],
)
def test_a_correlation_with_a_constant_is_a_failure_of_kind_nan_that_says_which_side_is_constant(
    objective: Any, right: list[float], predicted: list[float], constant: str
) -> None:
    subject = numbers(right, predicted)

    class Bench:
        environment: dict[str, Any] = {}  # noqa: RUF012

        def subject(self, candidate: Candidate) -> SupernetSubject:
            return subject

    outcome = measure(Ask(0, Candidate.of()), Bench(), [objective]).outcome  # type: ignore[arg-type]
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.message) == ("nan", f"objective {objective.name!r} is not defined: {constant}")


def questions() -> Told:
    """Four questions: answered exactly, partly, wrongly, and rightly with nothing."""
    rows = [("a b", ("a b", "x"), 0), ("b c d", ("b c d",), 0), ("a b", ("b",), 2), ("c d", ("",), -1)]
    table = pd.DataFrame([dict(zip(("context", "answers", "start"), row, strict=True)) for row in rows])
    data = encode_questions(table.assign(question="what"), WORDS, max_length=16, stride=2, question_length=4)
    logits = np.zeros((len(data.ids), 2), dtype=np.float32)
    for question, (first, last) in enumerate([(3, 4), (3, 4), (3, 3), (0, 0)]):
        logits[data.offsets[question] + first, 0] = logits[data.offsets[question] + last, 1] = 9.0
    return Told(bench("question_answering", data), Candidate.of(), ReductionPlan.unreduced(1), told=logits)


def test_answers_are_scored_question_by_question() -> None:
    # "a" is an article for SQuAD, so "a b" and "b" are the same; "b c" has two of the three words of "b c d"
    overlaps = [1.0, 2 * (1 * 2 / 3) / (1 + 2 / 3), 0.0, 1.0]
    right, overlap = exact_match.measure(questions()), f1.measure(questions())
    assert (right.value, right.n) == (0.5, 4)
    assert right.standard_error == pytest.approx(0.25)
    assert overlap.value == pytest.approx(np.mean(overlaps))
    assert overlap.standard_error == pytest.approx(stats.sem(overlaps))


def test_answers_of_a_real_pass_are_those_of_the_stock_model_one_window_at_a_time() -> None:
    task = GeneratedQuestions(train=1, search=40, report=1)
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=2, width=16, heads=2, feed_forward=32), FineTune())
    model = supernet.build(tokenizer, ("a", "b"), task.max_length, seed=0, head=task.head).eval()
    data = task.encode(task.tables(0).search, tokenizer)
    logits = []
    for window in range(len(data)):
        example = data.take([window])
        with torch.no_grad():
            inputs = torch.as_tensor(example.ids).long()[None], torch.as_tensor(example.types).long()[None]
            out = model.stock(input_ids=inputs[0], token_type_ids=inputs[1])
        logits.append(torch.stack([out.start_logits[0], out.end_logits[0]], dim=1).numpy())
    expected = squad_scores(best_answers(np.concatenate(logits), data), data.answers.golds)  # type: ignore[union-attr]
    subject = SupernetBench(PlanRunner(model, FineTune()), data, task.max_length, token_budget=256).subject(
        Candidate.of()
    )
    assert exact_match.measure(subject).value == expected[:, 0].mean()
    assert f1.measure(subject).value == pytest.approx(expected[:, 1].mean())
    assert 0 < expected[:, 1].mean() < 1


def test_answers_are_sought_once_for_both_objectives(monkeypatch: pytest.MonkeyPatch) -> None:
    from searchkit.evaluate import subject as subjects

    calls = []

    def counted(logits: Any, data: Encoded) -> Spans:
        calls.append(1)
        return Spans(np.full(4, -1), np.full(4, -1), np.zeros(4))

    monkeypatch.setattr(subjects, "best_spans", counted)
    subject = questions()
    assert (exact_match.measure(subject).value, f1.measure(subject).value) == (0.25, 0.25)
    assert len(calls) == 1
    exact_match.measure(questions())
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("predicted", "right", "scores"),
    [
        ("The Cat!", ("cat",), (1.0, 1.0)),
        ("cat dog", ("cat", "dog cat"), (0.0, 1.0)),
        ("", ("",), (1.0, 1.0)),
        ("cat", ("",), (0.0, 0.0)),
        ("", ("cat",), (0.0, 0.0)),
        ("big cat", ("cat",), (0.0, 2 / 3)),
    ],
)
def test_the_spelling_and_the_scores_are_those_of_squad(
    predicted: str, right: tuple[str, ...], scores: tuple[float, float]
) -> None:
    assert squad_scores((predicted,), (right,))[0].tolist() == pytest.approx(scores)


def test_answers_need_to_know_which_are_right() -> None:
    from dataclasses import replace

    subject = questions()
    data = replace(subject.bench.data, answers=None)
    with pytest.raises(StudyError, match=r"f1 needs a task whose examples say which answers are right"):
        f1.measure(replace(subject, bench=replace(subject.bench, data=data)))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", sorted(objective.name for of_head in HEADS.values() for objective in of_head))
def test_an_objective_refuses_other_heads(head: str, name: str) -> None:
    right = {
        "classification": lambda: classes([0, 1, 2], [0, 1, 1]),
        "regression": lambda: numbers([0.0, 1.0, 2.0], [0.5, 0.0, 1.0]),
        "question_answering": questions,
    }
    objective = OBJECTIVES[name]
    if objective in HEADS[head]:
        assert math.isfinite(objective.measure(right[head]()).value)
        return
    with pytest.raises(StudyError, match=rf"{name} needs a task of \w+, this one is {head}"):
        objective.measure(right[head]())


def test_errors_and_costs_are_better_when_lower() -> None:
    assert {name for name, objective in OBJECTIVES.items() if objective.better == "lower"} == {
        "mse",
        "flops",
        "macs",
        "latency",
        "memory",
    }
