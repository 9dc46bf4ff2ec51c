"""The contract of heads: losses and divergences of the right shape, gradients, and a config that tells the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from searchkit.reduction.heads import HEADS, Head, head_of
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.plugins import registry
from searchkit.testing.models import LAYERS, bert, examples, tokens


class HeadContract:
    """Tests of `head` with `outputs` outputs; it is registered while they run."""

    head: Head
    outputs = 2

    @pytest.fixture(autouse=True)
    def _registered(self) -> Any:
        known, name = registry("head").registered, self.head.name
        before = dict(known)
        if name not in HEADS.own:
            known[name] = self.head
        yield
        known.clear()
        known.update(before)

    def model(self) -> AdaptiveModel:
        return bert(self.outputs, self.head)

    def labels(self, lengths: Tensor) -> Tensor:
        """Random labels of the head's format; whole numbers are below the outputs, or the shortest example."""
        number, shape = self.head.label_format
        size, generator = (len(lengths), *shape), torch.Generator().manual_seed(0)
        if number == "float32":
            return torch.randn(size, generator=generator)
        below = int(lengths.min()) if self.model().view.reads == "tokens" else self.outputs
        return torch.randint(0, below, size, generator=generator)

    def test_the_model_has_this_head_and_outputs_for_every_row_that_it_reads(self) -> None:
        model, given = self.model(), tokens(examples(5))
        logits = model(given, ReductionPlan.unreduced(LAYERS)).logits
        rows = len(given.ids) if model.view.reads == "tokens" else 5
        assert model.head == self.head
        assert logits.shape == (rows, self.outputs)

    def test_loss_and_divergence_are_finite_numbers_with_a_gradient(self) -> None:
        given = tokens(examples(5))
        labels = self.labels(given.layout.lengths)
        rows = len(given.ids) if self.model().view.reads == "tokens" else 5
        torch.manual_seed(1)
        student, teacher = (torch.randn(rows, self.outputs, requires_grad=True) for _ in range(2))
        for value in (
            self.head.loss(student, labels, given.layout),
            self.head.divergence(student, teacher.detach(), given.layout, "student-teacher"),
        ):
            (gradient,) = torch.autograd.grad(value, student)
            assert value.shape == ()
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0

    def test_nothing_diverges_from_itself(self) -> None:
        model, given = self.model(), tokens(examples(5))
        logits = model(given, ReductionPlan.unreduced(LAYERS)).logits.detach()
        for direction in ("student-teacher", "teacher-student"):
            divergence = self.head.divergence(logits, logits.clone(), given.layout, direction)
            assert abs(float(divergence)) < 1e-6

    def test_evidence_is_one_number_per_example_with_labels_and_without(self) -> None:
        model, given = self.model(), tokens(examples(5))
        logits = model(given, ReductionPlan.unreduced(LAYERS)).logits
        for labels in (None, self.labels(given.layout.lengths)):
            assert self.head.evidence(logits, labels, given.layout).shape == (5,)

    def test_a_saved_model_is_loaded_with_the_same_head(self, tmp_path: Path) -> None:
        model, given, whole = self.model(), tokens(examples(5)), ReductionPlan.unreduced(LAYERS)
        model.save(tmp_path)
        loaded = load_model(str(tmp_path)).eval()
        assert loaded.head == self.head
        torch.testing.assert_close(loaded(given, whole).logits, model(given, whole).logits, atol=1e-6, rtol=0)

    def test_its_settings_have_the_form_that_searchkit_reads(self) -> None:
        number, shape = self.head.label_format
        assert number in ("int64", "float32")
        assert all(isinstance(size, int) for size in shape)
        assert self.head.reads in (None, "first", "mean", "tokens")
        assert self.head.fits(self.outputs)
        config = self.model().stock.config
        assert head_of(config, type(self.model().stock).__name__) == self.head
