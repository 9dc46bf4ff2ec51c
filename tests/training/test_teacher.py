"""Distillation from the model that a recipe begins with: its outputs, the loss, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searchkit import Scratch, Supernet
from searchkit.errors import StoreError, StudyError
from searchkit.reduction.plan import ReductionPlan
from searchkit.training import LTP, Transkimmer
from searchkit.training.recipe import begin
from searchkit.training.stage import batch_of, labelled
from searchkit.training.teacher import taught
from tests.training.recipes import SMALL, context_in, data_for, untrained

CPU = torch.device("cpu")


@pytest.mark.parametrize("head", ["classification", "regression", "question_answering"])
def test_the_loss_mixes_labels_and_the_outputs_of_the_model_as_it_was(tmp_path: Path, head: str) -> None:
    model, data = untrained(head), data_for(head)
    whole = ReductionPlan.unreduced(model.shape.layers)
    rows = torch.tensor([5, 0, 3])
    batch = batch_of(data, rows, CPU)
    loss = taught(model, data, context_in(tmp_path), 0.25)
    model.eval()
    with torch.no_grad():
        alone = [model(batch_of(data, row[None], CPU).tokens, whole).logits.float() for row in rows]
        teacher = torch.cat(alone)
        student = torch.randn(teacher.shape, generator=torch.Generator().manual_seed(0))
        divergence = model.head.divergence(student, teacher, batch.layout, "teacher-student")
        expected = 0.75 * labelled(model, student, batch) + 0.25 * divergence
        for weight in model.parameters():
            weight.zero_()  # the teacher is what the model was
        assert loss(model, student, batch).item() == pytest.approx(expected.item(), rel=1e-5)
        if head == "classification":
            by_torch = F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
            assert divergence.item() == pytest.approx(by_torch.item(), rel=1e-5)


def test_the_outputs_are_written_once_and_read_again(tmp_path: Path) -> None:
    model, data = untrained("classification"), data_for("classification")
    taught(model, data, context_in(tmp_path), 0.5)
    written = (tmp_path / "teacher.npy").read_bytes()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    taught(model, data, context_in(tmp_path), 0.5)
    assert (tmp_path / "teacher.npy").read_bytes() == written
    assert np.load(tmp_path / "teacher.npy").shape == (len(data), 2)


@pytest.mark.parametrize("left", [0, 7, 140])
def test_damaged_outputs_are_told_in_one_line(tmp_path: Path, left: int) -> None:
    model, data = untrained("classification"), data_for("classification")
    written = tmp_path / "teacher.npy"
    taught(model, data, context_in(tmp_path), 0.5)
    written.write_bytes(written.read_bytes()[:left])
    with pytest.raises(StoreError, match=r"teacher\.npy is damaged, remove it and it is made again: "):
        taught(model, data, context_in(tmp_path), 0.5)


def test_a_recipe_without_distillation_writes_nothing(tmp_path: Path) -> None:
    model, data = untrained("classification"), data_for("classification")
    assert begin(LTP(start=None), model, data, context_in(tmp_path)) is labelled
    assert not (tmp_path / "teacher.npy").exists()


@pytest.mark.parametrize("recipe", ["transkimmer", "ltp", "power_bert", "adapler"])
def test_what_is_imitated_changes_what_is_trained(tmp_path: Path, recipe: str) -> None:
    from dataclasses import replace

    trained: dict[float, Any] = {}
    for share in (0.0, 1.0):
        model = untrained("classification")
        folder = tmp_path / str(share)
        replace(SMALL[recipe](), distil=share).train(model, data_for("classification"), context_in(folder))
        trained[share] = torch.cat([weight.detach().flatten() for weight in model.stock.parameters()])
    assert not torch.equal(trained[0.0], trained[1.0])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_out_of_range_names_the_rule(share: float) -> None:
    with pytest.raises(StudyError, match=rf"distil is a share of the loss in \[0, 1\], got distil={share}"):
        Transkimmer(distil=share)


def test_a_model_that_has_learnt_nothing_cannot_teach() -> None:
    with pytest.raises(StudyError, match="Scratch has learnt nothing yet that it could teach"):
        Supernet(Scratch(layers=2), Transkimmer(start=None))
    Supernet(Scratch(layers=2), Transkimmer(start=None, distil=0.0))
    Supernet(Scratch(layers=2), Transkimmer())
