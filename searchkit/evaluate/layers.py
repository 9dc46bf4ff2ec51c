"""Work of each layer under one plan: the tokens that enter its parts, and its MACs, as means over the examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from searchkit._internal.checks import json_number, json_of

if TYPE_CHECKING:
    from searchkit.evaluate.subject import SupernetSubject


@dataclass(frozen=True)
class LayerCosts:
    """Mean tokens and MACs of one example in each layer, the first layer first.

    attention: tokens that entered attention; feed_forward: tokens that entered the feed-forward part; macs: of the
    whole layer, with the scores of its tokens; other_macs: of head and embeddings, outside the layers

    >>> from searchkit.evaluate.layers import LayerCosts
    >>> LayerCosts((64.0, 32.0), (32.0, 1.0), (3e6, 1e6), 1e4).share
    (0.7481296758104738, 0.24937655860349128)
    """

    attention: tuple[float, ...]
    feed_forward: tuple[float, ...]
    macs: tuple[float, ...]
    other_macs: float

    @property
    def share(self) -> tuple[float, ...]:
        """Share of each layer in all MACs of the example."""
        whole = sum(self.macs) + self.other_macs
        return tuple(layer / whole for layer in self.macs)

    @classmethod
    def of(cls, subject: SupernetSubject) -> LayerCosts:
        """Means over the examples of the subject's split, from the trace that it has."""
        from searchkit.reduction.cost import layer_macs, macs

        trace, shape = subject.raw_passes.trace, subject.shape
        layers = layer_macs(trace, shape)
        attention, feed_forward, work = (
            tuple(column.double().mean(0).tolist()) for column in (trace.attention, trace.feed_forward, layers)
        )
        return cls(attention, feed_forward, work, float((macs(trace, shape) - layers.sum(1)).mean()))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerCosts:
        """Read the record; TypeError, KeyError or ValueError for anything else."""
        json_of(data, dict)
        attention, feed_forward, macs = (
            tuple(map(json_number, json_of(data[name], list))) for name in ("attention", "feed_forward", "macs")
        )
        if not len(attention) == len(feed_forward) == len(macs):
            raise ValueError(f"work of layers needs one number for each layer, got {data!r}")
        return cls(attention, feed_forward, macs, json_number(data["other_macs"]))
