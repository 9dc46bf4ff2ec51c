"""Rivals of a run: measured beside the front on the report split, never searched, held against the front."""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from objectives import accuracy, macs
from objectives.latency import _latencies
from searchkit import Estimate, Objective, Scratch, Supernet
from searchkit._internal.paths import relative_to
from searchkit.errors import DataError, StoreError, StudyError
from searchkit.evaluate.timing import Protocol
from searchkit.evaluate.workbench import RivalParts, SupernetWorkbench
from searchkit.objective import Subject, Timing
from searchkit.records import Candidate
from searchkit.runs.benches import workbench as workbench_of
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.rivals import _cut, on_texts, rivals_of
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.runs.texts import Texts
from searchkit.tasks import Generated
from searchkit.tasks.base import Encoded
from searchkit.tasks.words import word_tokenizer
from searchkit.training import FineTune
from tests.figures import with_figures
from tests.reduction.models import MODELS, examples, padded
from tests.studies import SMALL, small_study

of_latency = importlib.import_module("objectives.latency")  # the package has a function of its name
LABELS = ("positive", "negative")  # the other way round than the data's
AS_IT_IS = "FineTune(epochs=0)"
ASKING = (
    SMALL.replace("import NSGA2", "import Depth, NSGA2")
    .replace(
        "LengthDrop(epochs=1, learning_rate=1e-3, start=FineTune(epochs=1, learning_rate=1e-3))", "FineTune(epochs=0)"
    )
    .replace("Scratch(layers=3, width=16, heads=2, feed_forward=32)", '"base"')
    .replace("evaluations: int = 24", "evaluations: int = 8")
    .replace("seed=seed", 'rivals=["other/small", Depth(layers=(1, 2))], seed=seed')
)
PLAIN = ASKING.replace('rivals=["other/small", Depth(layers=(1, 2))], ', "")
TASK = Generated(train=320, search=120, report=100)


def other_model(folder: Path, seed: int = 0) -> None:
    """A checkpoint of its own, with more words in its vocabulary, in another order, and other labels first."""
    checkpoint(folder, [*TASK.words(), "unused"][::-1], Scratch(1, 24, 2, 16), LABELS, seed)


def checkpoint(folder: Path, vocabulary: Sequence[str], size: Scratch, labels: Sequence[str], seed: int = 0) -> None:
    words = word_tokenizer(vocabulary)
    model = Supernet(size, FineTune()).build(words, labels, TASK.max_length, seed)
    with torch.no_grad():
        for weight in (weight for weight in model.stock.parameters() if weight.dim() > 1):
            weight.normal_(0, 0.5)  # so that it predicts either class
    model.save(folder)
    words.save_pretrained(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a study with rivals has run."""
    folder = tmp_path_factory.mktemp("rivals")
    threads = torch.get_num_threads()
    other_model(folder / "other" / "small")
    checkpoint(folder / "base", TASK.words(), Scratch(3, 16, 2, 32), TASK.tables(0).labels, seed=6)
    loaded = load(small_study(folder, ASKING))
    with with_figures():
        execute(loaded, conditions(folder))
    yield folder
    torch.set_num_threads(threads)


def conditions(home: Path) -> Conditions:
    return Conditions(runs=home / "runs", threads=1, dtype="fp32")


def rows(home: Path, family: str) -> pd.DataFrame:
    frame = pd.read_csv(home / "runs" / "small" / "baselines.csv")
    return frame[frame["family"] == family]


def texts_of() -> tuple[list[str], np.ndarray[Any, Any]]:
    report = TASK.tables(0).report
    return report["text"].tolist(), report["label"].to_numpy()


def stock_accuracy(folder: Path, labels: Sequence[str], layers: int | None = None) -> float:
    """Accuracy on the report split of transformers' own class, which knows nothing of searchkit."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if layers is not None:
        model.base_model.encoder.layer = model.base_model.encoder.layer[:layers]
    texts, right = texts_of()
    given = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        predicted = model(**given).logits.argmax(1).tolist()
    names = TASK.tables(0).labels
    return float(np.mean([labels[number] == names[label] for number, label in zip(predicted, right, strict=True)]))


def test_a_checkpoint_is_measured_as_transformers_runs_it_with_its_own_words_and_labels(home: Path) -> None:
    (row,) = rows(home, "rival small").to_dict("records")
    assert row["accuracy_report"] == stock_accuracy(home / "other" / "small", LABELS)
    assert row["accuracy_report"] != 0.5  # as a model has that says the same of every text
    assert row["accuracy_report_n"] == 100
    assert row["rival"] == "small"


def test_depth_is_the_supernet_with_its_first_layers_alone(home: Path) -> None:
    (supernet,) = (path for path in (home / "runs" / "supernets").iterdir() if path.is_dir())
    names = TASK.tables(0).labels
    assert 0.5 not in rows(home, "depth")["accuracy_report"].tolist()
    for row in rows(home, "depth").to_dict("records"):
        assert row["accuracy_report"] == stock_accuracy(supernet, names, layers=int(row["layers"]))


def test_the_cost_of_a_rival_is_counted_as_that_of_the_unreduced_model(home: Path) -> None:
    """By the closed formula: 3 layers of width 16, of which the last computes first tokens alone, against 1 of 24."""
    texts, _ = texts_of()
    lengths = torch.tensor([len(text.split()) + 2 for text in texts])  # a word is a token, beside [CLS] and [SEP]
    load_of = {"layers": 3, "width": 16, "feed_forward": 32}
    whole = cost_of(lengths, **load_of)
    (row,) = rows(home, "rival small").to_dict("records")
    assert row["macs_report"] == pytest.approx(cost_of(lengths, layers=1, width=24, feed_forward=16) / whole, rel=1e-9)
    assert row["macs_report_low"] < row["macs_report"] < row["macs_report_high"]  # the ratio differs from text to text
    costs = rows(home, "depth")["macs_report"].tolist()
    assert costs == pytest.approx(
        [cost_of(lengths, **{**load_of, "layers": layers}) / whole for layers in (1, 2)], rel=1e-9
    )


def cost_of(lengths: torch.Tensor, layers: int, width: int, feed_forward: int) -> float:
    n = lengths.double()
    full = 4 * width**2 * n + 2 * width * n**2 + 2 * width * feed_forward * n
    last = 2 * width**2 * (n + 1) + 2 * width * n + 2 * width * feed_forward
    head = width**2 + 2 * width
    return float(((layers - 1) * full + last + head).sum())


def test_rivals_are_never_searched_and_stand_in_every_report(home: Path) -> None:
    folder = home / "runs" / "small"
    results = stored_results(Folder(folder))
    assert list(results.baselines)[-2:] == ["rival small", "depth"]
    assert not any("rival" in trial.ask.candidate for trial in results.trials)
    assert not any("rival" in trial.ask.candidate for trial in results.front)
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["baselines"]["rival small"]["at_equal"]["macs"]) >= {"points", "better", "worse", "beaten"}
    assert summary["baselines"]["depth"]["at_equal"]["macs"]["points"] == 2
    assert "rival small" in (folder / "report.md").read_text()
    assert "Rival small: " in (folder / "report.md").read_text()
    assert "rival small, report split" in (folder / "pareto.svg").read_text()


def borrowing(home: Path, tmp_path: Path, text: str) -> Path:
    """A study file beside the same supernet and a rival of the same name."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "supernets").symlink_to(home / "runs" / "supernets")
    other_model(tmp_path / "other" / "small")
    (tmp_path / "base").symlink_to(home / "base")
    return small_study(tmp_path, text)


def test_a_finished_run_takes_rivals_and_other_weights_of_them_and_searches_nothing_again(
    home: Path, tmp_path: Path
) -> None:
    file = borrowing(home, tmp_path, PLAIN)
    assert load(file).study.describe() == load(home / "small_study.py").study.describe()
    first = execute(load(file), conditions(tmp_path))
    assert "depth" not in first.baselines
    small_study(tmp_path, ASKING)
    later = execute(load(file), conditions(tmp_path))
    assert later.trials == first.trials
    expected = stored_results(Folder(home / "runs" / "small")).baselines
    for family in ("rival small", "depth"):
        assert [one.outcome for one in later.baselines[family]] == [one.outcome for one in expected[family]]
    other_model(tmp_path / "other" / "small", seed=3)
    (changed,) = execute(load(file), conditions(tmp_path)).baselines["rival small"]
    (before,) = later.baselines["rival small"]
    assert changed.ask.candidate["weights"] != before.ask.candidate["weights"]
    assert changed.outcome != before.outcome
    small_study(tmp_path, PLAIN)
    assert execute(load(file), conditions(tmp_path)).baselines.keys() == first.baselines.keys()


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({'"other/small"': '"./nowhere"'}, DataError, "rival ./nowhere: there is no such model folder"),
        ({"(1, 2)": "(1, 3)"}, StudyError, "Depth: layers are fewer than the encoder's 3, got 3"),
    ],
)
def test_a_rival_that_cannot_be_is_said_before_anything_is_made(
    home: Path, tmp_path: Path, replaced: dict[str, str], error: type[Exception], message: str
) -> None:
    text = ASKING.replace('name: str = "small"', 'name: str = "fresh"')
    for old, new in replaced.items():
        text = text.replace(old, new)
    file = borrowing(home, tmp_path, text)
    with relative_to(tmp_path), pytest.raises(error, match=r"^[^\n]*$") as caught:
        execute(load(file), conditions(tmp_path))
    assert message in str(caught.value)
    assert not (tmp_path / "runs" / "fresh").exists()


def test_a_record_whose_rivals_are_none_is_said_in_one_line(home: Path, tmp_path: Path) -> None:
    file = home / "runs" / "small" / "study.json"
    kept = file.read_text()
    try:
        for rivals in ([1], {"depth": [3]}, {"depth": {"rival": "depth"}}):
            file.write_text(json.dumps({**json.loads(kept), "rivals": rivals}))
            with pytest.raises(StoreError, match=r"study.json was not written by searchkit: its rivals"):
                stored_results(Folder(home / "runs" / "small"))
    finally:
        file.write_text(kept)


def test_texts_of_the_user_are_read_by_each_rival_in_its_own_tokens(home: Path) -> None:
    session = Session(load(home / "small_study.py"), conditions(home))
    families, table = rivals_of(session), TASK.tables(0).search
    candidates = [*families["rival small"], *families["depth"]]
    bench = workbench_of(session, "report", candidates).build()
    own, other = (AutoTokenizer.from_pretrained(home / name) for name in ("base", "other/small"))
    texts = Texts("traffic.csv", table, TASK, TASK.encode(table, own))
    moved = on_texts(session, bench, texts, candidates)
    data = [moved.rivals[candidate.key].split.data for candidate in candidates]
    np.testing.assert_array_equal(data[0].ids, TASK.encode(table, other).ids)
    assert not np.array_equal(data[0].ids, texts.data.ids)
    assert all(one is texts.data for one in (moved.data, *data[1:]))
    assert moved.subject(candidates[0]).reference.data is texts.data


def encoded(ids: Sequence[Sequence[int]], labels: int = 0) -> Encoded:
    flat = np.concatenate([np.array(example, np.int32) for example in ids])
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    return Encoded(flat, np.zeros_like(flat), offsets, np.full(len(ids), labels, np.int64))


DEEP, SMALLER = Candidate.of(rival="depth", layers=2), Candidate.of(rival="other", weights="0")


def workbench(family: str) -> SupernetWorkbench:
    """A random model of three layers with two rivals: its first two layers, and the same on shorter texts."""
    model, ids = MODELS[family](), examples(6)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config, data = model.stock.config.to_dict(), encoded(ids)
    rivals = {
        DEEP.key: RivalParts(_cut(config, 2), weights, data),
        SMALLER.key: RivalParts(config, weights, encoded([example[:4] for example in ids])),
    }
    return SupernetWorkbench(
        config, model.head.name, weights, FineTune(), data, 40, dtype="fp32", threads=1, rivals=rivals
    )


@pytest.mark.parametrize("family", list(MODELS))
def test_the_first_layers_of_every_family_and_head_are_the_stock_model_cut(family: str) -> None:
    bench = pickle.loads(pickle.dumps(workbench(family))).build()  # as it travels to a worker
    subject = bench.subject(DEEP)
    auto = AutoModelForQuestionAnswering if "reader" in family else AutoModelForSequenceClassification
    stock = auto.from_config(subject.runner.model.stock.config).eval()
    assert stock.config.num_hidden_layers == 2
    whole = bench.model.stock.state_dict()
    stock.load_state_dict({name: whole[name] for name in stock.state_dict()})
    given, mask = padded(examples(6))
    with torch.inference_mode():
        out = stock(given, attention_mask=mask)
    expected = torch.stack([out.start_logits, out.end_logits], -1)[mask.bool()] if "reader" in family else out.logits
    torch.testing.assert_close(torch.as_tensor(subject.logits), expected, atol=1e-5, rtol=1e-5)


def test_a_rival_is_timed_on_its_own_tokens_of_the_same_texts_in_turns_with_the_front() -> None:
    bench = workbench("bert").build()
    front = Candidate.of(lengths=(1.0, 0.5, 0.5))
    seen: dict[str, set[tuple[int, ...]]] = {}  # the texts that each candidate runs on

    class Watched:
        def __init__(self, subject: Subject) -> None:
            self.subject = subject

        def __getattr__(self, name: str) -> Any:
            return getattr(self.subject, name)

        def forward(self, batch: Any) -> Any:
            seen.setdefault(self.subject.candidate.key, set()).add(tuple(batch.ids.tolist()))
            return self.subject.forward(batch)

    subjects: Any = [Watched(bench.subject(one)) for one in (SMALLER, front, DEEP)]
    protocol = Protocol(0.5, 0.001, 0.0, fewest=3, most=3)
    estimates = _latencies(subjects, batch_size=1, length=None, batches=3, protocol=protocol, threads=0)
    assert len(seen[front.key]) == 3
    assert seen[front.key] == seen[DEEP.key]
    assert seen[SMALLER.key] == {text[:4] for text in seen[front.key]}
    assert len({one.beside["unreduced_ms"] for one in estimates}) == 1  # all are ratios to the same model


def test_objectives_that_take_turns_get_rivals_and_front_together() -> None:
    from searchkit.evaluate.inline import Inline
    from searchkit.records import Ask, Measured

    groups: list[list[str]] = []

    def together(subjects: Sequence[Subject]) -> list[Estimate]:
        groups.append([subject.candidate.key for subject in subjects])
        return [Estimate(1.0, None, 1) for _ in subjects]

    turns = Objective("turns", "ms", "lower", lambda subject: Estimate(1.0, None, 1), timing=Timing(together=together))
    candidates = [Candidate.of(baseline="unreduced"), Candidate.of(lengths=(0.5, 0.5, 0.5)), DEEP, SMALLER]
    asks = [Ask(number, candidate) for number, candidate in enumerate(candidates)]
    with Inline(workbench("bert"), [accuracy, macs, turns]) as evaluator:
        trials = {trial.key: trial for trial in evaluator.run(asks)}
    assert [set(group) for group in groups] == [{candidate.key for candidate in candidates}]
    assert all(isinstance(trial.outcome, Measured) for trial in trials.values())
    assert len({json.dumps(dict(trial.environment)) for trial in trials.values()}) == 1


def test_a_bench_without_a_rival_does_not_take_it_for_the_whole_model() -> None:
    with pytest.raises(KeyError):
        workbench("bert").build().subject(Candidate.of(rival="depth", layers=1))


def test_a_smaller_bench_gives_the_same_values() -> None:
    bench = workbench("bert").build()
    smaller = bench.smaller()
    assert smaller.rivals[DEEP.key].split.token_budget < bench.token_budget
    np.testing.assert_allclose(smaller.subject(DEEP).logits, bench.subject(DEEP).logits, atol=1e-5)


def test_sessions_of_onnx_runtime_take_turns_in_groups_that_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, sizes = workbench("bert").build(), list[int]()
    subjects = [bench.subject(Candidate.of(lengths=(1.0, 1.0, share / 10))) for share in range(1, 9)]

    def timed(group: Sequence[Subject], **settings: Any) -> list[Estimate]:
        sizes.append(len(group))
        return [Estimate(subject.plan.slots[-1].keep.ratio, None, 1) for subject in group]  # type: ignore[union-attr, arg-type]

    monkeypatch.setattr(of_latency, "_latencies", timed)
    assert [one.value for one in of_latency._in_groups(subjects)] == [share / 10 for share in range(1, 9)]
    monkeypatch.setattr(of_latency, "ROOM", 0)  # of a large model
    assert len(of_latency._in_groups(subjects)) == 8
    assert sizes == [8, 6, 2]
