"""What every recipe keeps, for every kind of output it can train: a new entry of `RECIPES` is tested by existing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.relaxed import Hard
from searchkit.training.packing import as_tokens
from searchkit.training.plans import plan, slots
from tests.training.recipes import PAIRINGS, RECIPES, SCRATCH, SMALL, data_for, trained, untrained, weights, where

LAYERS = SCRATCH.layers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], AdaptiveModel]]:
    """Each pairing trained once, on demand."""

    class Trained(dict[tuple[str, str], AdaptiveModel]):
        def __missing__(self, pairing: tuple[str, str]) -> AdaptiveModel:
            self[pairing] = trained(*pairing, tmp_path_factory.mktemp("-".join(pairing))).eval()
            return self[pairing]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Trained()
    torch.set_num_threads(threads)


def candidates(name: str, model: AdaptiveModel) -> list[Candidate]:
    """Lengths, what training found, and, where there is a scale, thresholds and both together."""
    recipe = SMALL[name]()
    count = slots(recipe, LAYERS)
    lengths = tuple(0.9 - 0.3 * place for place in range(count))
    found = [Candidate.of(**{key: tuple(model.notes[key])}) for key in ("lengths", "thresholds") if key in model.notes]
    if recipe.scale is None:
        return [Candidate.of(lengths=lengths), *found]
    medium = {"relative": 0.8, "probability": 0.4}[recipe.scale]
    thresholds = (medium,) * count
    both = Candidate.of(lengths=lengths, thresholds=thresholds)
    return [Candidate.of(lengths=lengths), Candidate.of(thresholds=thresholds), both, *found]


@pytest.mark.parametrize(("name", "head"), PAIRINGS)
def test_training_changes_the_model_and_leaves_no_trace_of_its_own(name: str, head: str, models: object) -> None:
    model = models[name, head]  # type: ignore[index]
    assert not model.learned
    stock = torch.cat([weight.detach().flatten() for weight in model.stock.parameters()])
    before = torch.cat([weight.detach().flatten() for weight in untrained(head).stock.parameters()])
    assert (stock != before).float().mean() > 0.5
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize(("name", "head"), PAIRINGS)
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_hard_limit_of_the_relaxed_pass_is_physical_dropping(
    name: str, head: str, batch: int, models: object
) -> None:
    model, tokens = models[name, head], as_tokens(data_for(head).take(range(batch)))  # type: ignore[index]
    dropped = 0
    for candidate in candidates(name, model):
        reduced = plan(SMALL[name](), candidate, LAYERS)
        with torch.no_grad():
            physical, (logits, _) = model(tokens, reduced), model.fade(tokens, reduced, Hard())
        torch.testing.assert_close(logits, physical.logits, atol=1e-5, rtol=0)
        dropped += int((physical.trace.feed_forward < tokens.layout.lengths[:, None]).sum())
    assert dropped


@pytest.mark.parametrize(("name", "head"), PAIRINGS)
def test_an_example_is_treated_the_same_alone_and_in_company_and_every_time(
    name: str, head: str, models: object
) -> None:
    model, data = models[name, head], data_for(head)  # type: ignore[index]
    for candidate in candidates(name, model):
        reduced = plan(SMALL[name](), candidate, LAYERS)
        with torch.no_grad():
            together, again = (model(as_tokens(data.take(range(9))), reduced) for _ in range(2))
            assert torch.equal(together.logits, again.logits)
            alone = [model(as_tokens(data.take([row])), reduced) for row in range(9)]
        torch.testing.assert_close(torch.cat([one.logits for one in alone]), together.logits, atol=1e-5, rtol=0)
        for column in ("attention", "feed_forward", "scoring"):
            own = torch.cat([getattr(one.trace, column) for one in alone])
            assert torch.equal(own, getattr(together.trace, column)), column
        whole = together.trace.tokens[:, None]
        assert (together.trace.attention <= whole).all()
        assert (together.trace.feed_forward <= together.trace.attention).all()


@pytest.mark.parametrize(("name", "head"), PAIRINGS)
def test_what_is_saved_loads_again_and_the_stock_class_loads_the_weights(
    name: str, head: str, models: object, tmp_path: Path
) -> None:
    model, tokens = models[name, head], as_tokens(data_for(head).take(range(5)))  # type: ignore[index]
    model.save(tmp_path)
    loaded = AdaptiveModel.load(str(tmp_path)).eval()
    assert loaded.notes == model.notes
    for candidate in (Candidate.of(), *candidates(name, model)):
        reduced = plan(SMALL[name](), candidate, LAYERS)
        with torch.no_grad():  # a product with one output may sum in another order where its weights lie elsewhere
            ours, again = model(tokens, reduced).logits, loaded(tokens, reduced).logits
        torch.testing.assert_close(again, ours, atol=1e-6, rtol=0)
    stock = type(model.stock).from_pretrained(tmp_path)
    for name_, weight in model.stock.named_parameters():
        assert torch.equal(weight, stock.get_parameter(name_))


@pytest.mark.parametrize(("name", "head"), PAIRINGS)
def test_a_candidate_that_names_nothing_is_the_unreduced_model(name: str, head: str, models: object) -> None:
    model, tokens = models[name, head], as_tokens(data_for(head).take(range(5)))  # type: ignore[index]
    recipe = SMALL[name]()
    count = slots(recipe, LAYERS)
    whole: Tensor = model(tokens, ReductionPlan.unreduced(LAYERS)).logits
    same = [Candidate.of(), Candidate.of(lengths=(1.0,) * count)]
    if recipe.scale is not None:
        same.append(Candidate.of(lengths=(1.0,) * count, thresholds=(0.0,) * count))
    for candidate in same:
        assert plan(recipe, candidate, LAYERS) == ReductionPlan.unreduced(LAYERS)
        assert torch.equal(model(tokens, plan(recipe, candidate, LAYERS)).logits, whole)


class StoppedError(Exception):
    """What stands for a kill: it leaves the training at a step of our choice."""


# steps since it was continued; checkpoints are every second one or so. Two stops: in the first stage and in the next
STOPS = [(3, 14), pytest.param((3, 15, 14, 12), marks=pytest.mark.slow)]


@pytest.mark.parametrize("stops", STOPS, ids=len)
@pytest.mark.parametrize(("name", "head"), [(name, next(iter(RECIPES[name].heads))) for name in sorted(RECIPES)])
def test_an_interrupted_training_ends_with_the_same_weights(
    name: str, head: str, stops: tuple[int, ...], models: object, tmp_path: Path
) -> None:
    for stop_at in stops:
        taken = 0

        def stop(phase: str, done: int, total: int, note: str = "", stop_at: int = stop_at) -> None:
            nonlocal taken
            taken += 1
            if taken == stop_at:
                raise StoppedError

        try:
            trained(name, head, tmp_path, progress=stop)
        except StoppedError:
            continue
    calm = models[name, head]  # type: ignore[index]
    rough = trained(name, head, tmp_path)
    assert torch.equal(weights(rough), weights(calm))
    assert rough.notes == calm.notes


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_thresholds_without_a_score_to_turn_are_refused(name: str) -> None:
    recipe = SMALL[name]()
    count = slots(recipe, LAYERS)
    if recipe.scale is None:
        with pytest.raises(StudyError, match="trains no score that thresholds could turn; search its lengths"):
            plan(recipe, Candidate.of(thresholds=(0.5,) * count), LAYERS)
    with pytest.raises(StudyError, match="the candidate's lengths are"):
        plan(recipe, Candidate.of(lengths=(1.0,) * (count + 1)), LAYERS)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_another_seed_trains_other_weights(name: str, models: object, tmp_path: Path) -> None:
    head = next(iter(RECIPES[name].heads))
    model = untrained(head)
    SMALL[name]().train(model, data_for(head), where(tmp_path, seed=1))
    assert not torch.equal(weights(model), weights(models[name, head]))  # type: ignore[index]
