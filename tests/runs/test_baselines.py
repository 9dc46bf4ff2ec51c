"""The baselines against models that are given what the baselines pretend to: fewer tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from objectives import macs
from searchkit.errors import StudyError
from searchkit.evaluate.baselines import DROPS, SHARES, baselines
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.subject import SupernetSubject
from searchkit.records import Candidate
from searchkit.reduction.cost import unreduced_macs
from searchkit.reduction.encoder import encode
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.tasks import Generated, GeneratedQuestions, word_tokenizer
from searchkit.tasks.base import Encoded
from searchkit.training import BlockSkim, FineTune, InputReducer, LengthDrop, Transkimmer
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet
from tests.reduction.models import MODELS, classifier, examples, reader

LAYERS = 3
CUTS = ("truncation", "random tokens")


def bench_of(
    model: AdaptiveModel, ids: list[list[int]], marks: dict[str, list[list[bool]]] | None = None
) -> SupernetBench:
    """These examples, unlabelled."""
    flat = np.concatenate([np.array(example, np.int32) for example in ids])
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    joined = {name: np.concatenate([np.array(row, bool) for row in rows]) for name, rows in (marks or {}).items()}
    data = Encoded(flat, np.zeros_like(flat), offsets, np.zeros(len(ids), np.int64), joined)
    return SupernetBench(PlanRunner(model, FineTune()), data, padded_to=40, token_budget=64)


def cut(bench: SupernetBench, baseline: str, share: float) -> SupernetSubject:
    return bench.subject(Candidate.of(baseline=baseline, share=share))


def kept(bench: SupernetBench, baseline: str, share: float) -> list[list[int]]:
    """The positions that each example keeps."""
    tokens = bench.split.tokens(np.arange(len(bench.data)))
    with torch.inference_mode():
        embedded = bench.model.embed(tokens)
        left = encode(bench.model.view.blocks, embedded, tokens.layout, cut(bench, baseline, share).plan).layout
    return [left.positions[left.examples == row].tolist() for row in range(len(bench.data))]


def wanted(length: int, share: float) -> int:
    return math.ceil(share * length - 1e-9)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("family", [name for name in MODELS if "reader" not in name])
def test_truncation_is_the_model_on_examples_that_were_cut(family: str, share: float) -> None:
    ids = examples(8)
    model = MODELS[family]()
    shortened = Tokens.of_examples([example[: wanted(len(example), share)] for example in ids])
    with torch.inference_mode():
        expected = model(shortened, ReductionPlan.unreduced(LAYERS)).logits
    found = cut(bench_of(model, ids), "truncation", share)
    torch.testing.assert_close(found.passes[0], expected, atol=1e-5, rtol=1e-5)


def test_a_reader_finds_no_answer_in_what_was_cut_and_reads_the_rest_as_if_alone() -> None:
    ids, model = examples(8), reader("bert")
    shortened = [example[: wanted(len(example), 0.6)] for example in ids]
    with torch.inference_mode():
        expected = model(Tokens.of_examples(shortened), ReductionPlan.unreduced(LAYERS)).logits
    logits = cut(bench_of(model, ids), "truncation", 0.6).passes[0]
    stays = torch.cat([torch.arange(len(whole)) < len(short) for whole, short in zip(ids, shortened, strict=True)])
    torch.testing.assert_close(logits[stays], expected, atol=1e-5, rtol=1e-5)
    assert (logits[~stays] < -1000).all()


def with_separators(count: int = 8) -> tuple[list[list[int]], dict[str, list[list[bool]]]]:
    """Examples that end with token 2, which is marked; the second token is marked as a question's."""
    ids = [[*example, 2] for example in examples(count)]
    sep = [[False] * (len(example) - 1) + [True] for example in ids]
    question = [[place == 1 for place in range(len(example))] for example in ids]
    return ids, {"sep": sep, "question": question}


@pytest.mark.parametrize("share", SHARES)
def test_a_truncated_text_still_ends_with_its_separator(share: float) -> None:
    ids, marks = with_separators()
    bench = bench_of(classifier("bert"), ids, marks)
    for example, positions in zip(ids, kept(bench, "truncation", share), strict=True):
        count = max(2, wanted(len(example), share))
        assert positions == [*range(count - 1), len(example) - 1]


def test_the_separator_that_stays_is_computed_with() -> None:
    """The same ids and positions, given to the blocks directly."""
    ids, marks = with_separators(3)
    model = classifier("bert")
    bench = bench_of(model, ids, marks)
    for row, positions in enumerate(kept(bench, "truncation", 0.5)):
        tokens = torch.tensor([[ids[row][place] for place in positions]])
        with torch.inference_mode():
            expected = model.stock(input_ids=tokens, position_ids=torch.tensor([positions])).logits[0]
        torch.testing.assert_close(cut(bench, "truncation", 0.5).passes[0][row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("baseline", CUTS)
def test_only_a_reader_keeps_its_question(baseline: str) -> None:
    ids, marks = with_separators()
    reading, classifying = (kept(bench_of(make("bert"), ids, marks), baseline, 0.2) for make in (reader, classifier))
    assert all(1 in positions for positions in reading)
    assert not all(1 in positions for positions in classifying)
    plan = cut(
        bench_of(reader("bert"), ids, {}), baseline, 0.2
    ).plan  # nothing is marked, nothing is asked of the marks
    assert plan.input is not None
    assert plan.input.protect == ("cls",)


def test_random_tokens_are_other_tokens_than_the_first_but_as_many() -> None:
    ids, marks = with_separators()
    bench = bench_of(classifier("bert"), ids, marks)
    first, scattered = (kept(bench, baseline, 0.5) for baseline in CUTS)
    assert first != scattered
    assert [len(positions) for positions in first] == [len(positions) for positions in scattered]
    assert all(positions[0] == 0 for positions in scattered)
    assert all(positions[-1] == len(example) - 1 for positions, example in zip(scattered, ids, strict=True))
    logits = [cut(bench, baseline, 0.5).passes[0] for baseline in CUTS]
    assert not torch.allclose(*logits, atol=1e-3)


@pytest.mark.parametrize("baseline", CUTS)
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_an_example_loses_the_same_tokens_alone_and_in_company_and_every_time(baseline: str, batch: int) -> None:
    ids, model = examples(8), classifier("bert")
    whole = bench_of(model, ids)
    expected = cut(whole, baseline, 0.5)
    assert torch.equal(cut(whole, baseline, 0.5).passes[0], expected.passes[0])
    for start in range(0, 8, batch):
        part = cut(bench_of(model, ids[start : start + batch]), baseline, 0.5)
        rows = slice(start, start + batch)
        torch.testing.assert_close(part.passes[0], expected.passes[0][rows], atol=1e-5, rtol=1e-5)
        assert torch.equal(part.trace.attention, expected.trace.attention[rows])


@pytest.mark.parametrize("baseline", CUTS)
@pytest.mark.parametrize("share", SHARES)
def test_what_is_left_is_all_that_is_paid_for(baseline: str, share: float) -> None:
    ids, marks = with_separators()
    bench = bench_of(classifier("bert"), ids, marks)
    lengths = [len(example) for example in ids]
    left, whole = (
        unreduced_macs(torch.tensor(counts), bench.model.shape).sum()
        for counts in ([max(2, wanted(length, share)) for length in lengths], lengths)
    )
    assert macs.measure(cut(bench, baseline, share)).value == pytest.approx(float(left / whole), rel=1e-12)


def test_there_are_four_families_and_the_unreduced_model_is_the_same_in_all_spaces() -> None:
    families = baselines(3, 3)
    assert list(families) == ["unreduced", "truncation", "random tokens", "constant ratio"]
    assert {baselines(layers, slots)["unreduced"] for layers, slots in ((3, 3), (3, 4), (12, 12))} == {
        (Candidate.of(baseline="unreduced"),)
    }
    every = [candidate.key for family in families.values() for candidate in family]
    assert len(set(every)) == len(every) == 1 + 2 * len(SHARES) + len(DROPS)


def test_a_constant_ratio_begins_at_the_first_layer_where_the_input_has_a_place() -> None:
    plain, placed = (baselines(3, slots)["constant ratio"][2]["lengths"] for slots in (3, 4))
    assert plain == pytest.approx((0.8, 0.64, 0.512))
    assert placed == pytest.approx((1.0, 0.8, 0.64, 0.512))


RECIPES = [
    FineTune(),
    LengthDrop(),
    Transkimmer(),
    LengthDrop(input=InputReducer(scorer="value_norm")),
    BlockSkim(),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_all_families_run_on_the_supernet_of_every_recipe_from_costly_to_cheap(recipe: object) -> None:
    asks = isinstance(recipe, BlockSkim)
    task = GeneratedQuestions(train=9, search=9, report=9) if asks else Generated(train=9, search=9, report=9)
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=LAYERS, width=16, heads=2, feed_forward=32), recipe)  # type: ignore[arg-type]
    tables = task.tables(0)
    model = supernet.build(tokenizer, tables.labels, task.max_length, 0, task.head).eval()
    model.attach("block" if asks else "gate")
    bench = SupernetBench(
        PlanRunner(model, supernet.recipe), task.encode(tables.search, tokenizer), task.max_length, 256
    )
    for name, family in baselines(LAYERS, supernet.slots).items():
        costs = [macs.measure(bench.subject(candidate)).value for candidate in family]
        if (
            name != "constant ratio" or not asks
        ):  # of a block's scores the more are paid for, the more examples lose some
            assert costs == sorted(costs, reverse=True)
        if name == "unreduced":
            assert costs == [1.0]
        if name in CUTS:
            assert max(costs) < 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": "truncatoin", "share": 0.5}, "unknown baseline 'truncatoin'; did you mean 'truncation'"),
        ({"baseline": "truncation", "share": "half"}, "the share of a baseline is a number, got share='half'"),
    ],
)
def test_a_wrong_baseline_is_said_so(values: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        bench_of(classifier("bert"), examples(2)).subject(Candidate.of(values))
