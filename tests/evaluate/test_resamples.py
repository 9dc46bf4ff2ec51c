"""What objectives are on resamples, against libraries on the same rows one at a time, and their intervals."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from objectives import OBJECTIVES, accuracy, exact_match, f1, macro_f1, macs, matthews, mse, pearson, spearman
from objectives.quality import bootstrapped
from searchkit import stats as own
from searchkit.errors import StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.resamples import with_resamples
from searchkit.evaluate.subject import SupernetSubject
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate
from searchkit.reduction.cost import macs as macs_of
from searchkit.stats import RESAMPLES, draws, percentile_interval, resampled
from searchkit.tasks import GeneratedQuestions, word_tokenizer
from searchkit.tasks.windows import encode_questions
from searchkit.training import FineTune
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet
from tests.objectives.test_quality import classes, numbers, questions

Rows = NDArray[np.int64]


def values(objective: Objective, subject: SupernetSubject, rows: Rows) -> NDArray[np.float64]:
    assert objective.resample is not None
    return objective.resample(subject, rows)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.sampled_from([2, 4]), st.integers(1, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_scores_of_classes_on_resamples_are_those_of_scikit_learn(count: int, n: int, data: st.DataObject) -> None:
    sides = [data.draw(st.lists(st.integers(0, count - 1), min_size=n, max_size=n)) for _ in range(2)]
    right, predicted = (np.array(side) for side in sides)
    rows = np.array(data.draw(st.lists(st.lists(st.integers(0, n - 1), min_size=n, max_size=n), min_size=1)))
    subject = classes(right.tolist(), predicted.tolist(), count)
    for objective, score in {
        accuracy: metrics.accuracy_score,
        macro_f1: lambda *pair: metrics.f1_score(*pair, average="macro", zero_division=0),
        matthews: metrics.matthews_corrcoef,
    }.items():
        expected = [score(right[row], predicted[row]) for row in rows]
        np.testing.assert_allclose(values(objective, subject, rows), expected, atol=1e-9)


def test_scores_of_numbers_on_resamples_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    right = rng.normal(size=30).round(1)
    predicted = (right + rng.normal(size=30)).round(1)  # with ties
    rows = rng.integers(0, 30, (8, 30))
    subject = numbers(right.tolist(), predicted.tolist())
    for objective, score in {
        mse: lambda x, y: float(np.mean((x - y) ** 2)),
        pearson: lambda x, y: stats.pearsonr(x, y).statistic,
        spearman: lambda x, y: stats.spearmanr(x, y).statistic,
    }.items():
        expected = [score(predicted[row], right[row]) for row in rows]
        np.testing.assert_allclose(values(objective, subject, rows), expected, rtol=1e-5)


@pytest.mark.parametrize("objective", [pearson, spearman])
def test_a_correlation_is_not_defined_on_a_resample_of_one_number(objective: Objective) -> None:
    subject = numbers([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    found = values(objective, subject, np.array([[0, 0, 0], [1, 2, 2], [0, 1, 2]]))
    assert np.isnan(found).tolist() == [True, True, False]
    stored = with_resamples(objective).measure(subject).resamples
    assert len(stored) == RESAMPLES
    assert None in stored  # JSON knows no nan
    assert not any(value is not None and np.isnan(value) for value in stored)


def test_answers_are_resampled_question_by_question() -> None:
    rows = np.array([[0, 0, 0, 0], [2, 2, 3, 3], [0, 1, 2, 3]])
    overlap = [1.0, 0.8, 0.0, 1.0]
    np.testing.assert_allclose(values(exact_match, questions(), rows), [1.0, 0.5, 0.5])
    np.testing.assert_allclose(values(f1, questions(), rows), np.array(overlap)[rows].mean(1))


def test_macs_of_a_question_are_those_of_all_its_windows() -> None:
    task = GeneratedQuestions(train=1, search=12, report=1)
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=2, width=16, heads=2, feed_forward=32), FineTune())
    model = supernet.build(tokenizer, ("a", "b"), task.max_length, seed=0, head=task.head).eval()
    data = encode_questions(task.tables(0).search, tokenizer, max_length=24, stride=6, question_length=8)
    assert data.answers is not None
    assert len(data) > 12  # some questions have several windows
    bench = SupernetBench(PlanRunner(model, FineTune()), data, task.max_length, token_budget=256)
    subject = bench.subject(Candidate.of(lengths=(0.5, 0.2)))
    own, whole = (macs_of(one.trace, model.shape).numpy() for one in (subject, bench.unreduced))
    rows = np.random.default_rng(0).integers(0, 12, (5, 12))
    expected = []
    for row in rows:
        windows = [window for question in row for window in np.flatnonzero(data.answers.questions == question)]
        expected.append(own[windows].sum() / whole[windows].sum())
    np.testing.assert_allclose(values(macs, subject, rows), expected, rtol=1e-12)
    estimate = macs.measure(subject)
    assert estimate.n == 12
    spread = np.std(resampled(lambda rows: values(macs, subject, rows), 12), ddof=1)
    assert estimate.standard_error == pytest.approx(spread, rel=0.3)
    assert values(macs, bench.unreduced, rows).tolist() == [1.0] * 5


def right_of(head: str) -> Any:
    rng = np.random.default_rng(3)
    if head == "question_answering":
        return questions()
    if head == "regression":
        right = rng.normal(size=300)
        return numbers(right.tolist(), (right + rng.normal(size=300)).tolist())
    right = rng.integers(0, 3, 300)
    return classes(right.tolist(), np.where(rng.random(300) < 0.7, right, 0).tolist(), 3)


HEADS = {
    **dict.fromkeys(("accuracy", "macro_f1", "matthews"), "classification"),
    **dict.fromkeys(("mse", "pearson", "spearman"), "regression"),
    **dict.fromkeys(("exact_match", "f1"), "question_answering"),
}


@pytest.mark.parametrize("name", HEADS)
def test_every_quality_has_an_interval_about_its_value_and_its_resamples(name: str) -> None:
    subject, objective = right_of(HEADS[name]), OBJECTIVES[name]
    plain, more = objective.measure(subject), with_resamples(objective).measure(subject)
    assert plain.low is not None
    assert plain.high is not None
    assert plain.low < plain.value < plain.high
    assert plain.resamples == ()
    assert replace(more, resamples=()) == plain
    assert len(more.resamples) == RESAMPLES
    assert np.mean(more.resamples) == pytest.approx(plain.value, abs=plain.high - plain.low)  # type: ignore[arg-type]
    if plain.n > 100:  # Wilson's and the normal interval are near the percentiles
        assert (plain.low, plain.high) == pytest.approx(percentile_interval(np.array(more.resamples)), abs=0.03)
        assert plain.high - plain.low == pytest.approx(3.92 * plain.standard_error, rel=0.15)  # type: ignore[operator]
    assert all(value is None or value == float(f"{value:.6g}") for value in more.resamples)


def test_an_objective_with_resamples_travels_and_one_without_stays_as_it_is() -> None:
    subject = classes([0, 1, 2, 1], [0, 1, 1, 1])
    moved = pickle.loads(pickle.dumps(with_resamples(accuracy)))
    assert moved.measure(subject) == with_resamples(accuracy).measure(subject)
    assert with_resamples(OBJECTIVES["latency"]) is OBJECTIVES["latency"]


def test_the_draws_are_the_same_however_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(draws(7)))
    assert whole.shape == (RESAMPLES, 7)
    assert whole.min() == 0
    assert whole.max() == 6
    for at_once in (1, 21, 100):
        monkeypatch.setattr(own, "AT_ONCE", at_once)
        parts = list(draws(7))
        assert len(parts) > 1
        assert np.array_equal(np.concatenate(parts), whole)


def test_a_resample_of_the_wrong_shape_is_the_studys_fault() -> None:
    wrong = replace(accuracy, resample=lambda subject, rows: rows.mean())
    with pytest.raises(StudyError, match="objective 'accuracy': resample must give one value for each row"):
        with_resamples(wrong).measure(classes([0, 1], [0, 1]))


@given(st.floats(0.05, 0.95), st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_interval_by_percentiles_leaves_out_what_is_not_defined(share: float, seed: int) -> None:
    found = np.random.default_rng(seed).normal(size=200)
    found[: int(share * 100)] = np.nan
    assert percentile_interval(found) == pytest.approx(tuple(np.nanquantile(found, [0.025, 0.975])))
    assert percentile_interval(np.array([np.nan, 1.0])) == (None, None)


def test_one_example_has_no_interval_by_percentiles() -> None:
    assert bootstrapped(0.5, 1, lambda rows: np.zeros(len(rows))) == Estimate(0.5, None, 1)
    assert mse.measure(numbers([1.0], [2.0])) == Estimate(1.0, None, 1)
