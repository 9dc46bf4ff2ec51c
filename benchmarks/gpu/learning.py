"""Training on the device: gradients against the CPU's, and an epoch of LengthDrop that must learn."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.checks import Check, Figures
from benchmarks.gpu.made import Setting, Size, documents, families, texts, words_of
from searchkit.reduction.device import dtype_of
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.relaxed import Hard
from searchkit.testing.models import random_model
from searchkit.training import LengthDrop
from searchkit.training.packing import as_tokens
from searchkit.training.stage import TrainingContext

GRADIENT: Final = {"fp32": 1e-3, "bf16": 0.1}  # length of the difference, as a share of the gradient's
LONG: Final = (14, 26)


def model(size: Size) -> AdaptiveModel:
    """A random model without dropout, in training mode, on the CPU."""
    config = families(size)["bert"](num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return random_model(config, HEADS["classification"], scale=1.1 / size.width**0.5).train()


def gradient(made: AdaptiveModel, tokens: Tokens, plan: ReductionPlan, dtype: torch.dtype, relaxed: bool) -> Tensor:
    """The gradient of the task's loss for all weights, as one vector on the CPU in float64."""
    device, labels = tokens.ids.device, torch.arange(len(tokens.layout.lengths), device=tokens.ids.device) % 2
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = made.fade(tokens, plan, Hard())[0] if relaxed else made(tokens, plan).logits
        loss = made.head.loss(logits, labels, tokens.layout)
    made.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [weight.grad for weight in made.parameters() if weight.grad is not None]
    return torch.cat([grad.double().flatten().cpu() for grad in grads])


def step(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare gradients of the packed and the relaxed pass, the latter of written maps, with float32 on the CPU."""
    layers, given = setting.size.layers, texts(setting.size)
    exact, ours = model(setting.size), model(setting.size).to(setting.device)
    shortened = tuple(0.75**layer for layer in range(1, layers + 1)) if dtype == "fp32" else (1.0,) * layers
    plan = ReductionPlan.of_lengths(shortened)  # in half precision another token at a cut-off is another gradient
    for relaxed in (False, True):
        expected = gradient(exact, given, plan, torch.float32, relaxed)
        made = gradient(
            ours, given.to(setting.device), plan, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], relaxed
        )
        difference = float((made - expected).norm() / expected.norm())
        figures.at_most("relaxed_pass" if relaxed else "packed_pass", difference, GRADIENT[dtype])


def epoch(figures: Figures, setting: Setting) -> None:
    """Train an epoch of LengthDrop on generated documents: the loss must fall, and weights stay finite."""
    made = model(replace(setting.size, words=words_of(LONG))).to(setting.device)
    data = documents(setting.size.examples, LONG)
    before = loss_on(made, data)
    with tempfile.TemporaryDirectory() as folder:
        context = TrainingContext(Path(folder), setting.device, 0, lambda *_: None, dtype_of("auto", setting.device))
        LengthDrop(epochs=1, start=None, batch_size=8 if setting.smoke else 32, learning_rate=1e-4).train(
            made, data, context
        )
    after = loss_on(made, data)
    figures.tell(loss_before=before, loss_after=after, documents=len(data))
    figures.holds("loss_falls", after < before)


def loss_on(made: AdaptiveModel, data: Any) -> float:
    """Mean loss of the unreduced model on the documents, in float32."""
    device, plan = next(made.parameters()).device, ReductionPlan.unreduced(made.shape.layers)
    rows = np.arange(min(len(data), 512))
    tokens = as_tokens(data.take(rows)).to(device)
    with torch.inference_mode():
        labels = torch.as_tensor(data.labels[rows]).to(device)
        return float(made.head.loss(made.eval()(tokens, plan).logits, labels, tokens.layout))


def checks(setting: Setting) -> list[Check]:
    steps = [
        Check(f"training.gradients.{dtype}", functools.partial(step, setting=setting, dtype=dtype))
        for dtype in GRADIENT
    ]
    return [*steps, Check("training.lengthdrop", functools.partial(epoch, setting=setting), needs=("accelerate",))]
