"""Predictions that a run keeps: those of its supernet's folder under each plan, whoever measured them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import searchkit
from objectives import exact_match, macs
from searchkit import Candidate, StoreError, StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.predictions import Predicted, Predictions, instruction_set, kept_layers, predicted
from searchkit.records import Measured
from searchkit.reduction.loading import load_model
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.session import Session
from searchkit.runs.study_file import Loaded, load
from searchkit.runs.transfer import copy_run, restore_run
from searchkit.runs.verify import predicted_again
from searchkit.tasks import Generated, GeneratedQuestions, best_answers, word_tokenizer
from searchkit.training import FineTune
from searchkit.training.pretrained import load_tokenizer
from searchkit.training.supernet import Scratch, Supernet
from tests.runs.test_python import STUDY
from tests.studies import small_study

UNREDUCED = Candidate.of(baseline="unreduced")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home, threads = tmp_path_factory.mktemp("predictions"), torch.get_num_threads()
    execute(loaded(home), Conditions(runs=home / "runs", threads=1, dtype="fp32"))
    yield home
    torch.set_num_threads(threads)


def loaded(home: Path) -> Loaded:
    return load(small_study(home), {"evaluations": "8", "documents": "64"})


def fresh_bench(session: Session) -> SupernetBench:
    """The report split and the supernet, loaded anew from its folder."""
    folder, task = str(session.supernet.folder), session.study.task
    data = task.encode(session.tables.report, load_tokenizer(folder))
    model = load_model(folder).frozen()
    return SupernetBench(PlanRunner(model, session.study.supernet.recipe), data, task.max_length, token_budget=4096)


def test_the_kept_work_of_layers_adds_up_to_the_macs_that_were_measured(home: Path) -> None:
    run = searchkit.open(home / "runs/small")
    study = str(run.results.study["fingerprint"])
    layers = kept_layers(run.path / "predictions.parquet", study)
    assert set(layers) == {*run.front["key"], UNREDUCED.key}
    for trial in run.results.on_report:
        if trial.key in layers:
            macs_per_example = trial.estimates["macs"].beside["macs_per_example"]
            assert sum(layers[trial.key].macs) + layers[trial.key].other_macs == pytest.approx(macs_per_example)
    unreduced, (cheapest, *_) = layers[UNREDUCED.key], run.front["key"]
    session = Session(loaded(home), Conditions(runs=home / "runs", threads=1, dtype="fp32"))
    assert unreduced.attention == pytest.approx([fresh_bench(session).data.lengths.mean()] * len(unreduced.macs))
    assert sum(layers[cheapest].feed_forward) < sum(unreduced.feed_forward)
    assert kept_layers(run.path / "predictions.parquet", "another") == {}
    assert kept_layers(run.path / "nothing.parquet", study) == {}


def test_kept_predictions_are_the_logits_of_the_front_and_the_unreduced_model(home: Path) -> None:
    run = searchkit.open(home / "runs/small")
    session = Session(loaded(home), Conditions(runs=home / "runs", threads=1, dtype="fp32"))
    bench = fresh_bench(session)
    kept = Predictions.read(run.path / "predictions.parquet")
    assert set(kept.members) == {*run.front["key"], UNREDUCED.key}
    assert (kept.study, kept.split, kept.head) == (session.fingerprint, "report", "classification")
    assert kept.labels == session.tables.labels
    for key in kept.members:
        frame, subject = run.predictions(key), bench.subject(run.candidate(key))
        assert frame["example"].tolist() == session.tables.report.index.tolist()
        assert set(frame["key"]) == {key}
        assert set(frame["dtype"]) == {"fp32"}
        own = frame[["logit_0", "logit_1"]].to_numpy()
        assert own.dtype == np.float32
        assert own.tobytes() == subject.logits.tobytes()
        alone = np.stack([subject.forward(subject.tokens(np.array([row])))[0].numpy() for row in range(len(own))])
        np.testing.assert_allclose(own, alone, atol=1e-5)
        right = float((own.argmax(1) == session.tables.report["label"]).mean())
        trial = next(trial for trial in run.results.on_report if trial.key == key)
        assert isinstance(trial.outcome, Measured)
        assert trial.outcome.estimates["accuracy"].value == right
    environment = kept.of(UNREDUCED.key).environment
    assert (environment["threads"], environment["isa"]) == (1, instruction_set())
    assert {"dtype", "torch", "device_name"} <= environment.keys()


def assert_same(predictions: Predictions, others: Predictions) -> None:
    assert predictions.members.keys() == others.members.keys()
    assert all(predictions.of(key).same(kept) for key, kept in others.members.items())


def test_workers_keep_the_same_predictions_and_only_missing_ones_are_made(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "runs/small/predictions.parquet"
    whole = Predictions.read(path)
    study = replace(loaded(home).study, name="workers")
    searchkit.run(study, runs=home / "runs", workers=1, threads=1, dtype="fp32", device="cpu")
    there = Predictions.read(home / "runs/workers/predictions.parquet")
    assert_same(there, whole)

    asked: list[list[str]] = []
    from searchkit.runs import report_phase

    evaluator = report_phase.evaluator

    def watched(session: Any, split: str, objectives: Any, count: int, *candidates: Any) -> Any:
        asked.append([split, *(objective.name for objective in objectives), str(count)])
        return evaluator(session, split, objectives, count, *candidates)

    monkeypatch.setattr(report_phase, "evaluator", watched)
    conditions = Conditions(runs=home / "runs", threads=1, dtype="fp32")
    execute(loaded(home), conditions)
    assert asked == []
    replace(whole, members=dict(list(whole.members.items())[1:])).write(path)
    execute(loaded(home), conditions)
    assert asked == [["report", "1"]]
    assert_same(Predictions.read(path), whole)
    path.write_bytes(b"PAR1 torn")
    execute(loaded(home), conditions)
    assert asked[1:] == [["report", str(len(whole.members))]]
    assert_same(Predictions.read(path), whole)


def test_the_unreduced_model_has_predictions_where_another_study_measured_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        searchkit.run(replace(STUDY, name=name), runs=tmp_path, threads=1)
    one, two = (searchkit.open(tmp_path / name).predictions(UNREDUCED.key) for name in ("one", "two"))
    assert one.equals(two)


def test_verify_compares_predictions_to_the_last_bit(home: Path) -> None:
    folder, conditions = Folder(home / "runs/small"), Conditions(runs=home / "runs", threads=1, dtype="fp32")
    small_study(home)
    kept = Predictions.read(folder.predictions)
    assert predicted_again(folder, 2, conditions) == 2
    one = kept.of(UNREDUCED.key)
    logits = np.nextafter(one.outputs["logit_0"], np.float32(9))

    def other(**environment: int) -> None:
        changed = Predicted({**one.outputs, "logit_0": logits}, {**one.environment, **environment})
        replace(kept, members={**kept.members, UNREDUCED.key: changed}).write(folder.predictions)

    try:
        other()
        with pytest.raises(StoreError, match=f"those of {UNREDUCED.key} are others now"):
            predicted_again(folder, 100, conditions)
        other(threads=7)  # made elsewhere: the last digits may differ, and are not compared
        assert predicted_again(folder, 100, conditions) == len(kept.members) - 1
    finally:
        kept.write(folder.predictions)


def test_a_copied_and_restored_run_has_its_predictions(home: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/copy.db"
    copy_run(Folder(home / "runs/small"), storage)
    restored, _ = restore_run(loaded(home), storage, tmp_path / "runs")
    assert restored.predictions.read_bytes() == (home / "runs/small/predictions.parquet").read_bytes()


@pytest.mark.parametrize("head", ["question_answering", "regression"])
def test_answers_and_numbers_are_those_of_the_subject(head: str) -> None:
    task = GeneratedQuestions(1, 1, 20) if head == "question_answering" else Generated(2, 2, 20)
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=2, width=16, heads=2, feed_forward=32), FineTune())
    labels = ("start", "end") if head == "question_answering" else ("stars",)
    model = supernet.build(tokenizer, labels, task.max_length, seed=0, head=head).eval()
    data = task.encode(task.tables(0).report, tokenizer)
    subject = SupernetBench(PlanRunner(model, FineTune()), data, task.max_length, token_budget=256).subject(
        Candidate.of()
    )
    found = predicted(subject)
    assert found is not None
    if head == "regression":
        assert found.outputs.keys() == {"value"}
        assert found.outputs["value"].tobytes() == subject.logits[:, 0].tobytes()
        return
    assert data.answers is not None
    pairs = zip(data.answers.contexts, found.outputs["start"], found.outputs["end"], strict=True)
    assert tuple(context[start:end] for context, start, end in pairs) == best_answers(subject.logits, data)
    offsets = data.offsets
    for question, score in enumerate(found.outputs["score"]):
        starts, ends = subject.logits[offsets[question] : offsets[question + 1]].T
        context = data.answers.begins[offsets[question] : offsets[question + 1]] >= 0
        best = max(s + e for at, s in enumerate(starts) for e in ends[at:] if context[at])
        assert score <= best + 1e-5
        assert score >= starts[context].max() + ends[context].min()


def test_logits_that_are_not_finite_are_kept_as_they_are() -> None:
    task = GeneratedQuestions(1, 1, 3)
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=1, width=16, heads=2, feed_forward=32), FineTune())
    for head, made in (("classification", Generated(2, 2, 3)), ("question_answering", task)):
        words = word_tokenizer(made.words()) if head == "classification" else tokenizer
        model = supernet.build(words, ("a", "b"), made.max_length, seed=0, head=head).eval()
        with torch.no_grad():
            next(iter(model.stock.parameters())).fill_(float("nan"))
        data = made.encode(made.tables(0).report, words)
        subject = SupernetBench(PlanRunner(model, FineTune()), data, made.max_length, token_budget=256).subject(
            Candidate.of()
        )
        found = predicted(subject)
        assert found is not None
        assert np.isnan(found.outputs["score" if head == "question_answering" else "logit_0"]).all()
        assert len(found) == 3


def test_a_run_of_questions_keeps_answers(tmp_path: Path) -> None:
    study = replace(STUDY, task=GeneratedQuestions(48, 24, 24), objectives=[exact_match, macs])
    searchkit.run(study, runs=tmp_path, threads=1)
    run = searchkit.open(tmp_path / "here")
    frame = run.predictions(run.front["key"][0])
    assert list(frame) == ["key", "example", "start", "end", "score", "dtype"]
    assert len(frame) == 24


@pytest.mark.parametrize("kind", ["absent", "torn", "other", "format", "rows", "key"])
def test_a_predictions_file_that_cannot_be_read_is_one_line(home: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "predictions.parquet"
    whole = Predictions.read(home / "runs/small/predictions.parquet")
    whole.write(path)
    table = pq.read_table(path)
    if kind == "absent":
        path.unlink()
    elif kind == "torn":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "other":
        pq.write_table(pa.table({"a": [1]}), path)
    elif kind == "format":
        text = table.schema.metadata[b"searchkit"].replace(b'"format": 1', b'"format": 9')
        pq.write_table(table.replace_schema_metadata({b"searchkit": text}), path)
    elif kind == "rows":
        pq.write_table(table.take([0, 1, 3]), path)
    expected = StudyError if kind in ("absent", "key") else StoreError
    words = {"absent": "no predictions are kept", "format": "its format is 9", "key": "unknown key 'abc'"}
    with pytest.raises(expected, match=words.get(kind, "not written by searchkit")) as error:
        Predictions.read(path).frame("abc")
    assert "\n" not in str(error.value)
