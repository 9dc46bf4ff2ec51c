"""Training: it learns, it repeats, it goes on after an interruption; LengthDrop's own rules."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction import state
from searchkit.reduction.plan import ReductionPlan
from searchkit.tasks import Encoded
from searchkit.training import LTP, BlockSkim, FineTune, InputReducer, LengthDrop
from searchkit.training.length_drop import drawn, smallest
from searchkit.training.packing import as_tokens
from searchkit.training.plans import plan
from searchkit.training.recipe import Recipe, check_recipe
from searchkit.training.stage import Batch
from searchkit.training.trainer import EpochBatches
from tests.training.recipes import SCRATCH, context_in, data_for, trained, untrained, weights


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> Encoded:
    return data_for("classification")


class StoppedError(Exception):
    """What stands for a kill: it leaves the training at a step of our choice."""


def test_a_checkpoint_that_was_cut_while_it_was_written_is_left_out(data: Encoded, tmp_path: Path) -> None:
    undisturbed = weights(trained("finetune", "classification", tmp_path / "calm"))
    taken = 0

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal taken
        taken += 1
        if taken == 9:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained("finetune", "classification", tmp_path / "rough", progress=stop)
    newest = max((tmp_path / "rough").rglob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = newest / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:20])
    assert torch.equal(weights(trained("finetune", "classification", tmp_path / "rough")), undisturbed)
    assert not newest.exists()


def test_finetuning_learns_what_can_be_learnt(data: Encoded, tmp_path: Path) -> None:
    classifier = untrained()
    tokens = as_tokens(data)
    plan, labels = ReductionPlan.unreduced(SCRATCH.layers), torch.as_tensor(data.labels)
    with torch.no_grad():
        before = F.cross_entropy(classifier.eval()(tokens, plan).logits, labels).item()
    FineTune(epochs=30, learning_rate=3e-3, batch_size=16).train(
        classifier,
        data,
        context_in(tmp_path),
    )
    with torch.no_grad():
        logits = classifier.eval()(tokens, plan).logits
    assert F.cross_entropy(logits, labels).item() < before / 2
    assert (logits.argmax(1) == labels).float().mean() > 0.8


def test_the_sandwich_gradient_is_the_mean_of_its_passes_gradients(data: Encoded) -> None:
    """Sharing the first attention changes nothing: without dropout the gradient is that of the passes run apart."""
    part = data.take(np.arange(8))
    batch = Batch(as_tokens(part), torch.as_tensor(part.labels), torch.arange(8))
    recipe, layers = LengthDrop(sandwich=2), SCRATCH.layers

    ours = untrained().eval()
    for loss in recipe._sandwich(ours, batch, np.random.default_rng(5)):
        loss.backward()

    apart, rng = untrained().eval(), np.random.default_rng(5)
    full = apart(batch.tokens, ReductionPlan.unreduced(layers)).logits
    (F.cross_entropy(full, batch.labels) / 4).backward()
    for number in range(3):
        lengths = smallest(layers, 0.2) if number == 0 else drawn(layers, 0.2, rng)
        recipe._skipped(layers, rng)
        student = apart(batch.tokens, ReductionPlan.of_lengths(lengths)).logits
        p, q = student.softmax(-1), full.detach().softmax(-1)
        ((p * (p / q).log()).sum(-1).mean() / 4).backward()  # KL(student || teacher), as the equation has it
    for (name, mine), (_, other) in zip(ours.named_parameters(), apart.named_parameters(), strict=True):
        assert mine.grad is not None, name
        assert other.grad is not None, name
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_the_sandwich_attends_once_to_what_all_passes_begin_with(
    data: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where a pass may begin otherwise: without its first layer, or with fewer tokens."""
    part = data.take(np.arange(8))
    batch = Batch(as_tokens(part), torch.as_tensor(part.labels), torch.arange(8))
    counts: list[int] = []
    attend = state.attend
    monkeypatch.setattr(state, "attend", lambda *given, **more: counts.append(1) or attend(*given, **more))

    def calls(recipe: LengthDrop) -> int:
        counts.clear()
        model = untrained().train()
        if recipe.input is not None:
            model.attach("input")
        for loss in recipe._sandwich(model, batch, np.random.default_rng(5)):
            loss.backward()
        return len(counts)

    assert calls(LengthDrop(sandwich=2)) == 4 * SCRATCH.layers - 3
    assert calls(LengthDrop(sandwich=2, layer_drop=1e-9)) == 4 * SCRATCH.layers
    assert calls(LengthDrop(sandwich=2, input=InputReducer())) == 4 * SCRATCH.layers


def test_random_lengths_stay_within_the_bound_and_never_grow() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        lengths = drawn(6, 0.2, rng)
        for earlier, later in zip((1.0, *lengths), lengths, strict=False):
            assert 0.8 * earlier <= later <= earlier
    assert smallest(3, 0.2) == pytest.approx((0.8, 0.64, 0.512))


def test_layer_drop_never_leaves_out_every_layer() -> None:
    recipe, rng = LengthDrop(layer_drop=0.9), np.random.default_rng(0)
    sizes = {len(recipe._skipped(2, rng)) for _ in range(300)}
    assert sizes == {0, 1}
    assert not any(LengthDrop()._skipped(6, rng) for _ in range(50))


def test_an_epoch_holds_every_example_once_in_batches_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 333)
    batches = list(EpochBatches(lengths, 8, seed=0, epoch=lambda _: 0))
    assert sorted(row for batch in batches for row in batch) == list(range(333))
    assert len(batches) == len(EpochBatches(lengths, 8, seed=0, epoch=lambda _: 0)) == 42
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.5 * np.mean([np.ptp(lengths[i : i + 8]) for i in range(0, 328, 8)])
    assert batches != list(EpochBatches(lengths, 8, seed=0, epoch=lambda _: 1))


def test_a_candidate_of_another_depth_is_the_studys_fault() -> None:
    with pytest.raises(StudyError, match="the encoder has 3 layers"):
        plan(FineTune(), Candidate.of(lengths=(1.0, 0.5)), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": 0.0}, "bound must be in"),
        ({"sandwich": -1}, "sandwich must not be negative"),
        ({"kl_direction": "sideways"}, "kl_direction is"),
        ({"layer_drop": 1.0}, "layer_drop must be in"),
        ({"warmup": 1.0}, "warmup is a fraction"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        LengthDrop(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [LengthDrop, LTP, BlockSkim])
def test_an_unknown_fate_is_refused_when_the_recipe_is_made(recipe: type) -> None:
    with pytest.raises(StudyError, match="unknown fate 'freze'; did you mean 'freeze'"):
        recipe(fate="freze")


def test_epochs_of_zero_are_for_fine_tuning_alone() -> None:
    FineTune(epochs=0)
    for recipe in (LengthDrop, LTP, BlockSkim, InputReducer):
        with pytest.raises(StudyError, match="epochs must be at least 1, got epochs=0"):
            recipe(epochs=0)
    with pytest.raises(StudyError, match="epochs must be at least 0, got epochs=-1"):
        FineTune(epochs=-1)


def test_a_recipe_of_the_users_own_has_the_types_of_its_base_checked() -> None:
    @dataclass(frozen=True)
    class Mine(LengthDrop):
        pass

    module = types.ModuleType("mine")  # knows none of the names that the base's annotations use
    sys.modules["mine"] = module
    Mine.__module__ = "mine"
    try:
        with pytest.raises(StudyError, match="Mine: input must be an InputReducer or None, got True"):
            Mine(input=True)  # type: ignore[arg-type]
    finally:
        del sys.modules["mine"]


def test_a_start_with_an_input_reducer_of_its_own_is_refused() -> None:
    start = FineTune(input=InputReducer())
    with pytest.raises(StudyError, match="LengthDrop: its start trains an input reducer that no candidate uses"):
        check_recipe(LengthDrop(start=start), "classification", ())
    check_recipe(LengthDrop(input=InputReducer()), "classification", ("relative",))


@pytest.mark.parametrize(
    ("recipe", "head", "scales", "message"),
    [
        (BlockSkim(), "regression", (), "BlockSkim trains question_answering, the task is regression"),
        (FineTune(), "regression", ("relative",), "FineTune trains no score that thresholds could turn"),
        (LTP(), "regression", ("probability",), "have the scale 'relative', the space has 'probability'"),
    ],
)
def test_what_a_recipe_cannot_train_is_refused(recipe: Recipe, head: str, scales: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_recipe(recipe, head, scales)
