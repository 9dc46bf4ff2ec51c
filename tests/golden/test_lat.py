"""Golden numbers of the Length-Adaptive Transformer's published code."""

from __future__ import annotations

import pytest
import torch

from searchkit.engines.lat import constant_ratio
from searchkit.reduction.heads import kl_divergence as divergence


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (384, (308, 247, 198, 159, 128, 103, 83, 67, 54, 44, 36, 29)),
        (128, (103, 83, 67, 54, 44, 36, 29, 24, 20, 16, 13, 11)),
        (64, (52, 42, 34, 28, 23, 19, 16, 13, 11, 9, 8, 7)),
    ],
)
def test_deterministic_lengths_are_those_of_the_authors(tokens: int, expected: tuple[int, ...]) -> None:
    """T-LAT-1: drop ratio 0.2, 12 layers."""
    assert constant_ratio(tokens, 12, 0.2) == expected


def test_both_directions_of_the_distillation_loss_have_the_authors_values() -> None:
    """T-LAT-6: the published code computes KL(student || teacher)."""
    teacher, student = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.3, 0.0]])
    assert divergence(student, teacher, "student-teacher").item() == pytest.approx(0.516781, abs=1e-6)
    assert divergence(student, teacher, "teacher-student").item() == pytest.approx(0.405517, abs=1e-6)
