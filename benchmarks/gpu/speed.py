"""Speed on the device: passes and searches against what others would run there, training, and where the time goes.

Weights are random, of the shapes of real models: they decide nothing about time. Every rate is also told as a share of
a large product's in the same number format and the same run.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from benchmarks.gpu.checks import CannotRunError, Check, Figures
from benchmarks.gpu.made import CLS, FIRST, SEP, Setting
from benchmarks.padded import by_length, in_order, padded_search
from benchmarks.realised import compared
from benchmarks.timed import large_product, seconds, shares
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.records import Candidate
from searchkit.reduction.cost import macs, unreduced_macs
from searchkit.reduction.device import dtype_of, name_of
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.space import Lengths, Space
from searchkit.tasks.base import Encoded
from searchkit.testing.models import random_model
from searchkit.training import LengthDrop
from searchkit.training.stage import Losses, batch_of, task_loss

MODELS: Final = {"minilm": (6, 384, 12, 1536, 30522), "base": (12, 768, 12, 3072, 30522)}  # layers, width, heads, ...
TINY: Final = {"tiny": (2, 32, 2, 48, 300)}
LENGTHS: Final[tuple[int | str, ...]] = (64, 128, 384, "mix")
BATCHES: Final = (1, 8, 32, 128)
RATIOS: Final = {"constant ratio 0.8": 0.8, "constant ratio 0.6": 0.6}
MIX: Final = {"short": (24, 128), "long": (250, 384)}  # median and longest, of log-normal lengths
PROFILED: Final = 100  # texts; every operation is a record in memory
LARGE: Final = 1 << 16  # tokens of a batch, beside the usual budget


def models(setting: Setting) -> dict[str, tuple[int, int, int, int, int]]:
    """Layers, width, heads, feed-forward width and words of each model, by name."""
    return TINY if setting.smoke else MODELS


def made(name: str, setting: Setting, dropout: bool = False) -> AdaptiveModel:
    """A random model of a real one's shape, on the CPU in float32."""
    from transformers import BertConfig

    layers, width, heads, feed_forward, words = models(setting)[name]
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feed_forward,
        max_position_embeddings=512,
        num_labels=2,
        attention_probs_dropout_prob=0.0,  # so that training takes the fused kernel
        hidden_dropout_prob=0.1 if dropout else 0.0,
    )
    return random_model(config, HEADS["classification"], scale=1.1 / width**0.5)


@functools.lru_cache(maxsize=2)
def for_inference(name: str, setting: Setting, dtype: torch.dtype) -> tuple[AdaptiveModel, Any]:
    """Our model and the stock one, on the device."""
    stock = made(name, setting).to(setting.device, dtype).eval().stock
    return made(name, setting).to(setting.device, dtype).frozen(), stock


@functools.lru_cache(maxsize=4)
def product_gflops(device: torch.device, dtype: torch.dtype, smoke: bool) -> float:
    """GFLOP/s of a large product."""
    return large_product(dtype, device, *((256, 256) if smoke else (16384, 8192) if device.type == "cuda" else ()))


def best(setting: Setting) -> torch.dtype:
    """The number format that `auto` takes."""
    return dtype_of("auto", setting.device)


def drawn(length: int | str, batch: int, words: int, seed: int) -> Tokens:
    """Random tokens of one length, or of the lengths of short texts."""
    rng = np.random.default_rng(seed)
    lengths = ragged(rng, batch, *MIX["short"]) if isinstance(length, str) else [length] * batch
    return Tokens.of_examples([[CLS, *rng.integers(FIRST, words, each - 2).tolist(), SEP] for each in lengths])


def ragged(rng: np.random.Generator, count: int, median: int, longest: int) -> list[int]:
    """Sorted log-normal lengths."""
    lengths = np.sort(np.exp(rng.normal(np.log(median), 0.5, count)).clip(4, longest).astype(int))
    return [int(length) for length in lengths]


def ratio_plans(layers: int) -> dict[str, ReductionPlan]:
    """Plans by name."""
    return {
        name: ReductionPlan.of_lengths(tuple(ratio**layer for layer in range(1, layers + 1)))
        for name, ratio in RATIOS.items()
    }


def realised(figures: Figures, setting: Setting, name: str, length: int | str, batch: int) -> None:
    """Time plans against the unreduced model and the stock one, in turns."""
    dtype = best(setting)
    ours, stock = for_inference(name, setting, dtype)
    words = models(setting)[name][-1]
    inputs = [drawn(length, batch, words, seed).to(setting.device) for seed in range(1 if setting.smoke else 2)]
    whole = sum(float(unreduced_macs(tokens.layout.lengths, ours.shape).sum()) for tokens in inputs) / len(inputs)
    product = product_gflops(setting.device, dtype, setting.smoke)
    rows = []
    for plan_name, plan in ratio_plans(ours.shape.layers).items():
        row = compared(ours, stock, inputs, plan, 3 if setting.smoke else 15, ours.packed)
        rates = {
            side: 2 * whole / row[f"{side}_ms"] / 1e6 if row[f"{side}_ms"] else 0.0 for side in ("unreduced", "stock")
        }
        rates["reduced"] = rates["unreduced"] * row["unreduced_ms"] / max(row["reduced_ms"], 1e-9) / row["macs_speedup"]
        share = {f"{side}_of_a_large_product": round(rate / product, 4) for side, rate in rates.items()}
        rows.append({"plan": plan_name, **row, **share})
    last = rows[-1]
    told = ("macs_speedup", "latency_speedup", "realised", "reduced_ms", "unreduced_ms", "stock_ms")
    figures.tell(dtype=name_of(dtype), **{figure: last[figure] for figure in told}, rows=rows)


def flash_attention(figures: Figures, setting: Setting, name: str) -> None:
    """Time the stock model with flash attention on unpadded texts, where that library is there."""
    if importlib.util.find_spec("flash_attn") is None:
        raise CannotRunError("flash_attn is not installed")
    if not setting.on_gpu:
        raise CannotRunError("flash attention is for GPUs")
    dtype = best(setting)
    _, stock = for_inference(name, setting, dtype)
    stock.set_attn_implementation("flash_attention_2")
    try:
        for length, batch in itertools.product(LENGTHS, BATCHES):
            tokens = drawn(length, batch, models(setting)[name][-1], 0).to(setting.device)
            given = tokens.padded(typed=True)
            times = [seconds(lambda: stock(**given), setting.device) for _ in range(12)]  # noqa: B023
            figures.tell(**{f"{length}_by_{batch}_ms": 1e3 * float(np.median(times[2:]))})
    finally:
        stock.set_attn_implementation("sdpa")


def absent(figures: Figures, what: str) -> None:
    """Say that there is nothing to measure."""
    raise CannotRunError(f"searchkit has no {what} yet")


def split(setting: Setting, kind: str, words: int) -> Encoded:
    """Random texts with the lengths of short or long ones."""
    rng, count = np.random.default_rng(0), 24 if setting.smoke else 1000
    lengths = rng.permutation(ragged(rng, count, *MIX[kind]))
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    ids = rng.integers(FIRST, words, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[1:] - 1] = CLS, SEP
    return Encoded(ids, np.zeros_like(ids), offsets, rng.integers(0, 2, count), {"sep": ids == SEP})


def bench_of(setting: Setting, name: str, kind: str, dtype: str, token_budget: int = 4096) -> SupernetBench:
    """A bench of a random model on random texts."""
    model = made(name, setting)
    weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    data = split(setting, kind, models(setting)[name][-1])
    config, longest = model.stock.config.to_dict(), MIX[kind][1]
    workbench = SupernetWorkbench(
        config,
        "classification",
        weights,
        LengthDrop(),
        data,
        longest,
        str(setting.device),
        dtype,
        token_budget=token_budget,
    )
    return workbench.build()


def searched(setting: Setting, layers: int) -> list[Candidate]:
    """A generation of a search: decays, cliffs and random lengths, as the space draws them."""
    space = Space(Lengths(levels=16)).bound(layers)
    genomes = space.sample(4 if setting.smoke else 24, np.random.default_rng(0))
    return [space.decode(genome) for genome in genomes]


def search(figures: Figures, setting: Setting, name: str, kind: str) -> None:
    """Time a generation with shared prefixes against one candidate at a time, as published and straightforwardly."""
    device = setting.device
    bench, exact = bench_of(setting, name, kind, "auto"), bench_of(setting, name, kind, "fp32")
    candidates = searched(setting, bench.model.shape.layers)
    few = candidates[:: max(1, len(candidates) // (1 if setting.smoke else 4))]
    costs = {one.key: _needed(bench, one) for one in candidates}
    mean = float(np.mean(list(costs.values())))
    slow: dict[str, Callable[[Candidate], Any]] = {
        "straightforward": lambda one: padded_search(bench, one, by_length(bench), None),
        "published": lambda one: padded_search(exact, one, in_order(exact), bench.padded_to),
    }
    spent = {}
    for budget in (4096, LARGE):
        ours = bench if budget == 4096 else bench_of(setting, name, kind, "auto", budget)
        seconds(lambda: ours.prepare(candidates[:2]), device)  # noqa: B023
        took = min(seconds(lambda: ours.prepare(candidates), device) for _ in range(2))  # noqa: B023
        spent[f"ours, batches of {budget}"] = took / len(candidates)
    for way, call in slow.items():
        seconds(lambda: call(few[0]), device)  # noqa: B023
        times = [seconds(lambda: call(one), device) / costs[one.key] for one in few]  # noqa: B023
        spent[way] = float(np.median(times)) * mean  # seconds per MAC, times the mean candidate's
    part = replace(bench, data=bench.data.take(np.arange(min(len(bench.data), PROFILED))), cache_bytes=0)
    part.prepare(candidates)
    product = product_gflops(device, best(setting), setting.smoke)
    fastest = min(spent[f"ours, batches of {budget}"] for budget in (4096, LARGE))
    figures.tell(
        published_over_ours=spent["published"] / fastest,
        straightforward_over_ours=spent["straightforward"] / fastest,
        ms_per_candidate={way: round(1e3 * each, 3) for way, each in spent.items()},
        of_a_large_product={way: round(2 * mean / each / 1e9 / product, 4) for way, each in spent.items()},
        where_the_time_goes=shares(lambda: part.prepare(candidates), device),
    )


def _needed(bench: SupernetBench, candidate: Candidate) -> float:
    """MACs of a candidate on the split."""
    static = bench.subject(candidate).static
    assert static is not None
    return float(macs(static.trace, bench.model.shape).sum())


def training(figures: Figures, setting: Setting, name: str) -> None:
    """Tokens per second of training steps: the stock model's, ours, and one under a plan."""
    device, dtype = setting.device, best(setting)
    batch, length = (4, 16) if setting.smoke else (64, 128)
    data = _examples(batch, length, models(setting)[name][-1])
    given = batch_of(data, torch.arange(batch), device)
    padded, layers = given.tokens.padded(typed=True), models(setting)[name][0]
    plan = ReductionPlan.of_lengths(tuple(0.8**layer for layer in range(1, layers + 1)))
    ways: dict[str, Losses | None] = {"stock": None, "ours": task_loss(), "ours at constant ratio 0.8": task_loss(plan)}
    product = product_gflops(device, dtype, setting.smoke)
    whole = 6 * float(unreduced_macs(given.layout.lengths.cpu(), made(name, setting).shape).sum())
    for way, losses in ways.items():
        model = made(name, setting, dropout=True).to(device).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

        def step() -> None:
            with torch.inference_mode(False), torch.enable_grad():
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    if losses is None:  # noqa: B023
                        loss = model.stock(**padded, labels=given.labels).loss  # noqa: B023
                    else:
                        (loss,) = losses(model, given, 0)  # noqa: B023
                loss.backward()
                optimiser.step()  # noqa: B023
                optimiser.zero_grad()  # noqa: B023

        times = [seconds(step, device) for _ in range(3 if setting.smoke else 13)]
        took = float(np.median(times[1:] if setting.smoke else times[3:]))
        figures.tell(**{f"{way}, tokens per s": round(batch * length / took)})
        if way != "ours at constant ratio 0.8":
            figures.tell(**{f"{way}, of a large product": round(whole / took / 1e9 / product, 4)})


def _examples(batch: int, length: int, words: int) -> Encoded:
    tokens = drawn(length, batch, words, 0)
    ids = tokens.ids.numpy().astype(np.int32)
    labels = np.arange(batch, dtype=np.int64) % 2
    return Encoded(ids, np.zeros_like(ids), tokens.layout.offsets.numpy(), labels, {"sep": ids == SEP})


def products(figures: Figures, setting: Setting) -> None:
    """TFLOP/s of a large product in each number format, and GB/s of a copy."""
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        if setting.on_gpu or dtype != torch.float16:
            figures.tell(**{f"{name}_tflops": product_gflops(setting.device, dtype, setting.smoke) / 1e3})
    source = torch.empty((1 << 16) if setting.smoke else (1 << 30), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    took = min(seconds(lambda: target.copy_(source), setting.device) for _ in range(5))
    figures.tell(copy_gb_per_s=2 * source.numel() / took / 1e9)


def passes(figures: Figures, setting: Setting, name: str) -> None:
    """Say where the time of a pass goes, reduced and not."""
    ours, _ = for_inference(name, setting, best(setting))
    tokens = drawn(16 if setting.smoke else 128, 4 if setting.smoke else 32, models(setting)[name][-1], 0)
    tokens = tokens.to(setting.device)
    plans = {"unreduced": ReductionPlan.unreduced(ours.shape.layers), **ratio_plans(ours.shape.layers)}
    for plan_name, plan in plans.items():
        seconds(lambda: ours.packed(tokens, plan), setting.device)  # noqa: B023
        spent = shares(lambda: [ours.packed(tokens, plan) for _ in range(5)], setting.device)  # noqa: B023
        figures.tell(**{plan_name: spent})
    figures.tell(plans=len(plans))


def checks(setting: Setting) -> list[Check]:
    """What matters most comes first."""
    of = functools.partial
    names = list(models(setting))
    lengths: tuple[int | str, ...] = (16, "mix") if setting.smoke else LENGTHS
    batches = (1, 4) if setting.smoke else BATCHES
    made = [Check("products", of(products, setting=setting))]
    made += [
        Check(f"realised.{name}.{length}.{batch}", of(realised, setting=setting, name=name, length=length, batch=batch))
        for name, batch, length in itertools.product(names, batches, lengths)
    ]
    made += [
        Check(f"search.{name}.{kind}", of(search, setting=setting, name=name, kind=kind))
        for name, kind in itertools.product(names, MIX)
    ]
    made += [Check(f"training.{name}", of(training, setting=setting, name=name)) for name in names]
    made += [Check(f"where_the_time_goes.{name}", of(passes, setting=setting, name=name)) for name in names]
    made += [Check(f"stock.flash_attention.{name}", of(flash_attention, setting=setting, name=name)) for name in names]
    made += [
        Check(f"runtimes.{what.replace(' ', '_')}", of(absent, what=what)) for what in ("compiled pass", "CUDA graph")
    ]
    return made
