"""Layers along the front: the lengths or thresholds of every member, and what each layer costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit.errors import unknown
from searchkit.front import Array
from searchkit.records import Candidate, Trial
from searchkit.report.columns import brief, in_words
from searchkit.report.figures.style import (
    Runs,
    drawing,
    label_below,
    legend,
    only,
    say_nothing_was_measured,
    stands_alone,
)
from searchkit.report.results import UNREDUCED, Results, estimates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from searchkit.evaluate.layers import LayerCosts

SHADES: Final = "cividis"  # made for colour-blind readers, and rising in grey
MEANING: Final = {"lengths": "share of the tokens that is kept", "thresholds": "least score that is kept, 0: all are"}
MOST_NAMED: Final = 24  # members whose cells have room for a number
MOST_TICKS: Final = 12


def heat_map(runs: Runs, ax: Axes | None = None, *, dimension: str = "lengths") -> Axes:
    """Draw the values of a dimension ("lengths", "thresholds") along the front: a column per member, a row per layer.

    Members stand in the order of their cost, cheapest left. ValueError where the members have no such values. Returns
    the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.heat_map(searchkit.open("runs/quickstart"))  # doctest: +SKIP
    """
    results = only(runs)
    members = list(results.front)
    with drawing(ax) as axes:
        axes.set_ylabel("layer, the first at the top")
        label_below(axes, f"members of the front, by {in_words(results.cost.name)}, search split ({results.cost.unit})")
        if not members:
            say_nothing_was_measured(axes)
            return axes
        values = _values(members, dimension)
        low, high = (0.0, 1.0) if dimension == "lengths" else (float(np.nanmin(values)), float(np.nanmax(values)))
        image = axes.imshow(values, aspect="auto", cmap=SHADES, vmin=low, vmax=high if high > low else low + 1)
        _name_members(axes, results, members)
        axes.set_yticks(range(len(values)), _slots(results, len(values)))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        if len(members) <= MOST_NAMED:
            _write_cells(axes, values, image)
        _colour_bar(axes, image, MEANING.get(dimension, in_words(dimension)))
    return axes


def layers(runs: Runs, ax: Axes | None = None, *, costs: Mapping[str, LayerCosts] | None = None) -> Axes:
    """Draw the MACs of every layer along the front, stacked: each member beside the unreduced model, which is 1.

    costs: work of the layers by the key of the member; by default that of the opened run. ValueError where none is
    known, as for runs of earlier versions. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.layers(searchkit.open("runs/quickstart"))  # doctest: +SKIP
    """
    results = only(runs)
    known = _costs(runs) if costs is None else costs
    unreduced = known.get(Candidate.of(baseline=UNREDUCED).key)
    members = [member for member in results.front if member.key in known]
    with drawing(ax) as axes:
        axes.set_ylabel("MACs of an example, unreduced model = 1")
        label_below(axes, f"members of the front, by {in_words(results.cost.name)}; all: the unreduced model")
        if unreduced is None or not members:
            raise ValueError(
                "the work of layers is not known: remove predictions.parquet of an earlier version, and run it again"
            )
        rows = [known[member.key] for member in members] + [unreduced]
        whole = sum(unreduced.macs) + unreduced.other_macs
        parts = np.array([[*row.macs, row.other_macs] for row in rows]) / whole  # (K + 1, N + 1)
        places = np.arange(len(rows)) + (np.arange(len(rows)) == len(members)) * 0.5
        below = np.zeros(len(rows))
        for number, (part, style) in enumerate(zip(parts.T, _stack(parts.shape[1]), strict=True), start=1):
            name = "head, embeddings" if number == parts.shape[1] else f"layer {number}"
            axes.bar(places, part, 0.92, below, label=name, edgecolor=axes.get_facecolor(), linewidth=0.4, **style)
            below += part
        _name_members(axes, results, members, after=[(places[-1], "all")])
        axes.grid(visible=False, axis="x")
        legend(axes, reverse=True)
    return axes


def _costs(runs: Any) -> Mapping[str, LayerCosts]:
    """Work of the layers that an opened run knows."""
    listed = runs if isinstance(runs, Sequence) else [runs]
    return getattr(listed[0], "layers", {})


def _stack(count: int) -> list[dict[str, Any]]:
    """Fill of every part of a bar: shades from dark to light, with a hatch on every other one for print."""
    import matplotlib

    colours: Colormap = matplotlib.colormaps[SHADES]
    shades = [colours(share) for share in np.linspace(0.05, 0.95, max(count - 1, 1))]
    return [{"color": shade} for shade in shades[: count - 1]] + [{"color": "#bbbbbb", "hatch": "///"}]


def _values(members: Sequence[Trial], dimension: str) -> Array:
    """(slots, K) values of a dimension; NaN where a member has none."""
    known = {name for member in members for name, value in member.ask.candidate.items if isinstance(value, tuple)}
    if dimension not in known:
        raise ValueError(unknown("dimension", dimension, known))
    rows = [dict(member.ask.candidate.items).get(dimension, ()) for member in members]
    slots = max(len(row) for row in rows if isinstance(row, tuple))
    values = np.full((slots, len(members)), np.nan)
    for column, row in enumerate(rows):
        for place, value in enumerate(row if isinstance(row, tuple) else ()):
            values[place, column] = value if isinstance(value, int | float) else np.nan
    return values


def _slots(results: Results, count: int) -> list[str]:
    """Names of the slots: the layers, after the input where it is reduced too."""
    constant = [trial.ask.candidate for trial in results.baselines.get("constant ratio", ())]
    ratios = next((candidate["lengths"] for candidate in constant if "lengths" in candidate), ())
    has_input = (
        isinstance(ratios, tuple) and len(ratios) == count and ratios[0] == 1.0
    )  # which that baseline leaves whole
    return [*(["input"] if has_input else []), *(str(layer) for layer in range(1, count + 1 - has_input))]


def _name_members(
    axes: Axes, results: Results, members: Sequence[Trial], after: Sequence[tuple[float, str]] = ()
) -> None:
    """Ticks of the members with their costs, thinned where there are many; `after`: places and names of others."""
    step = -(-len(members) // MOST_TICKS)
    rows = [estimates(member, [results.cost]) or {} for member in members]
    named = [(place, f"{rows[place][results.cost.name].value:.3g}") for place in range(0, len(members), step)]
    places, names = zip(*named, *after, strict=True)
    axes.set_xticks(places, names)


def _write_cells(axes: Axes, values: Array, image: Any) -> None:
    """Write the value of each cell, light on dark and dark on light."""
    size = min(9.0, 140 / values.shape[1] if values.shape[1] > 12 else 9.0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            colour = "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"
            axes.text(column, row, brief(float(value)), ha="center", va="center", fontsize=size, color=colour)


def _colour_bar(axes: Axes, image: Any, label: str) -> None:
    """Draw the scale of colours beside the axes, in a part of them, so that other axes of the figure stay."""
    inset = axes.inset_axes((1.015, 0.0, 0.025, 1.0) if stands_alone(axes) else (1.02, 0.0, 0.04, 1.0))
    bar = axes.figure.colorbar(image, cax=inset)
    bar.set_label(label)
    bar.outline.set_visible(False)
