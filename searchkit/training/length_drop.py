"""LengthDrop, the sandwich rule, in-place distillation (Length-Adaptive Transformer, arXiv 2010.07003, sec. 3.2).

Per optimiser step: the full model learns the task and teaches; the smallest plan and `sandwich` random ones imitate.
All `sandwich + 2` passes weigh the same. Deviations from the published code, which works on padded batches: lengths are
fractions of each example's own tokens; pads neither vote nor count; LayerDrop is off by default and spares the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.heads import HEADS, Direction
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.training.loop import fit
from searchkit.training.plans import plan, slots
from searchkit.training.recipe import begin, check_fate
from searchkit.training.schedule import Schedule
from searchkit.training.stage import Batch, TrainingContext, check_scheduled, stage_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class LengthDrop(Schedule):
    """Fine-tune by `start`, then train `epochs` epochs under the sandwich rule.

    bound: p, the largest share of tokens that one layer may drop; the smallest plan drops it everywhere, r_l = (1 -
        p)^l, and a random plan draws r_l uniformly from [(1 - p) r_(l-1), r_(l-1)].
    kl_direction: "student-teacher" is KL(student || teacher), what the published code computes; "teacher-student" is
        KL(teacher || student), the usual distillation loss.
    layer_drop: probability of leaving out a layer, drawn for each student pass.
    thresholds: if not 0, every second random pass drops by thresholds drawn from [0, thresholds] instead of by lengths,
        so that both can be searched together (no paper).

    >>> LengthDrop(epochs=2, thresholds=1.5).scale
    'relative'
    """

    bound: float = 0.2
    sandwich: int = 2
    kl_direction: Direction = "student-teacher"
    layer_drop: float = 0.0
    thresholds: float = 0.0
    fate: str = "freeze"

    heads = HEADS
    scale = "relative"

    def __post_init__(self) -> None:
        check_scheduled(self)
        check_fate(self.fate)
        if not 0 < self.bound < 1:
            raise StudyError(f"bound must be in (0, 1), got {self.bound=}")
        if self.sandwich < 0:
            raise StudyError(f"sandwich must not be negative, got {self.sandwich=}")
        if self.kl_direction not in ("student-teacher", "teacher-student"):
            raise StudyError(f"kl_direction is 'student-teacher' or 'teacher-student', got {self.kl_direction=}")
        if not self.thresholds >= 0:
            raise StudyError(f"thresholds must not be negative, got {self.thresholds=}")
        if not 0 <= self.layer_drop < 1:
            raise StudyError(f"layer_drop must be in [0, 1), got {self.layer_drop=}")

    @property
    def reducer_template(self) -> Reducer:
        """Reducer by LAT's score as shares, which rank alike and to which thresholds (LTP's) apply too."""
        return Reducer(TopK(ratio=1.0), scorer="attention_mean", fate=self.fate)

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        begin(self, model, data, context)

        def losses(model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
            return self._sandwich(model, batch, np.random.default_rng((context.seed, step)))

        fit(model, data, stage_of("lengthdrop", self), losses, context)

    def _sandwich(self, model: AdaptiveModel, batch: Batch, rng: np.random.Generator) -> Iterator[Tensor]:
        passes, layers, tokens = self.sandwich + 2, model.shape.layers, batch.tokens
        # the common start of all passes is computed once; its gradient is summed and passed on at the end
        common = model.embed(tokens)
        after_first_attention = (
            model.begin(common, tokens, self.reducer_template) if self._shares_attention(model) else None
        )
        common = common if after_first_attention is None else after_first_attention.hidden
        shared = common.detach().requires_grad_()
        if after_first_attention is not None:
            after_first_attention = after_first_attention.with_hidden(shared)

        def logits(plan: ReductionPlan, skip: frozenset[int] = frozenset()) -> Tensor:
            return model(tokens, plan, skip, shared, after_first_attention).logits  # type: ignore[no-any-return]

        full = logits(ReductionPlan.unreduced(layers))
        teacher = full.detach()
        yield model.head.loss(full, batch.labels, batch.layout) / passes
        del full
        for candidate in self._students(slots(self, layers), rng):
            student = logits(plan(self, candidate, layers), self._skipped(layers, rng))
            yield model.head.divergence(student, teacher, batch.layout, self.kl_direction) / passes
        assert shared.grad is not None
        yield (common * shared.grad).sum()  # its gradient is the passes' gradient; its value means nothing

    def _shares_attention(self, model: AdaptiveModel) -> bool:
        """Return whether all passes share the first attention, the only path of gradients to the embeddings."""
        every = ReductionPlan.of_slots(
            self.reducer_template, model.shape.layers, lengths=smallest(model.shape.layers, self.bound)
        )
        return self.input is None and not self.layer_drop and not model.needs_buffer(every)

    def _students(self, count: int, rng: np.random.Generator) -> Iterator[Candidate]:
        """Plans of the students: the smallest lengths, then random ones; every second by thresholds, if any."""
        yield Candidate.of(lengths=smallest(count, self.bound))
        for number in range(self.sandwich):
            if number % 2 and self.thresholds:
                yield Candidate.of(thresholds=tuple(rng.uniform(0, self.thresholds, count).tolist()))
            else:
                yield Candidate.of(lengths=drawn(count, self.bound, rng))

    def _skipped(self, layers: int, rng: np.random.Generator) -> frozenset[int]:
        """Layers that LayerDrop skips in one pass; at least one layer stays (the published code can drop them all)."""
        dropped = rng.random(layers) < self.layer_drop
        dropped[rng.integers(layers)] &= not dropped.all()
        return frozenset(np.flatnonzero(dropped).tolist())


def smallest(layers: int, bound: float) -> tuple[float, ...]:
    """Smallest lengths r_l = (1 - p)^l for l = 1..layers."""
    return tuple((1 - bound) ** layer for layer in range(1, layers + 1))


def drawn(layers: int, bound: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Random lengths r_l, uniform in [(1 - p) r_(l-1), r_(l-1)], r_0 = 1."""
    lengths, last = [], 1.0
    for _ in range(layers):
        last = float(rng.uniform((1 - bound) * last, last))
        lengths.append(last)
    return tuple(lengths)
