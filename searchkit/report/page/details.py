"""Panel of one member: values, layers and commands. Every text that differs between members is a slot.

The script fills the slots anew when another member is selected, so that there is one rendering, here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from searchkit.evaluate.layers import LayerCosts
from searchkit.records import Z_95, Estimate, Value
from searchkit.report.columns import brief, in_words
from searchkit.report.limits import Limit
from searchkit.report.page.commands import pick_command, ship_command
from searchkit.report.page.markup import Markup, joined, tag
from searchkit.report.page.shown import Axis, Row, Shown
from searchkit.report.paired import Difference, between
from searchkit.report.results import CONSTANT_RATIO, is_timed
from searchkit.report.table import SHOWN_DECIMALS, decimals, objectives_with_optimism, optimism_of

BAR = 100  # width of a full bar
NO_PICK = "no limits choose this member: another is as cheap and better"


@dataclass
class Slots:
    """Texts of one member, in the order of their places in the panel."""

    texts: list[str] = field(default_factory=list)

    def text(self, text: str, name: str = "span", **attributes: str) -> Markup:
        """Place of a text."""
        self.texts.append(text)
        return tag(name, text, data_slot="", **attributes)

    def bar(self, share: float, full: float = 1.0) -> Markup:
        """Bar of a share in [0, 1], on a paler one of another share."""
        width, behind = (f"{BAR * min(max(part, 0.0), 1.0):.3g}" for part in (share, full))
        self.texts.append(width)
        bars = tag("rect", width=behind, height=8, class_="full"), tag("rect", width=width, height=8, data_slot="")
        return tag("svg", bars, viewBox=f"0 0 {BAR} 8", preserveAspectRatio="none", class_="bar", aria_hidden="true")


HOW: Final = {  # what led to a member
    "front": "Of the front of the search split.",
    "maybe": "Behind the front of the search split, perhaps by bad luck with its examples.",
    CONSTANT_RATIO: "A constant ratio, which no other member dominates.",
}


@dataclass(frozen=True)
class Panel:
    """Panel of the members of one run."""

    shown: Shown
    axes: Sequence[Axis]
    picks: Mapping[str, tuple[Limit, ...]]
    chances: Mapping[str, float]
    named: str = ""  # the run, where there are several

    def html(self, row: Row) -> tuple[Markup, list[str]]:
        """The panel as it shows a member, and the texts of its slots."""
        slots = Slots()
        chance = self.chances.get(row.key)
        said = HOW[self.shown.results.chosen_as(row.key)]
        said += "" if chance is None else f" On the front in {100 * chance:.0f} % of resamples of the report split."
        parts = [
            tag("h2", "Member ", slots.text(row.key, "code"), f" of {self.named}" if self.named else None),
            tag("p", slots.text(said)),
            self._values(row, slots),
            self._scalars(row, slots),
            self._layers(row, slots),
            self._commands(row, slots),
        ]
        return joined(parts), slots.texts

    def _values(self, row: Row, slots: Slots) -> Markup:
        """Values of all axes: on the report split with interval, on the search split, and against unreduced."""
        optimistic = {objective.name for objective in objectives_with_optimism(self.shown.results)}
        lines = []
        for axis in self.axes:
            own, whole = axis.estimate(self.shown, row.key), self._whole(axis)
            searched = row.searched.estimates.get(axis.name) if row.searched and not axis.setting else None
            optimism = optimism_of(searched, own) if axis.name in optimistic else None
            against = _against(own, whole)
            cells = [in_full(own), plain(searched), "-" if optimism is None else f"{optimism:+.4f}", against]
            name = tag("th", in_words(axis.name), tag("small", " ", axis.unit, " ", axis.where), scope="row")
            lines.append(tag("tr", name, [tag("td", slots.text(cell)) for cell in cells]))
        heading = ("", "report split, 95 % interval", "search split", "optimism", "against unreduced, 95 % interval")
        return _table("values of the member", heading, lines)

    def _whole(self, axis: Axis) -> Estimate | None:
        unreduced = self.shown.results.unreduced
        return axis.estimate(self.shown, unreduced.key) if unreduced else None

    def _scalars(self, row: Row, slots: Slots) -> Markup | None:
        """Values of the candidate that are no lists of layers."""
        names = [name for name, value in self._first if not isinstance(value, tuple)]
        if not names:
            return None
        values = dict(row.trial.ask.candidate.items)
        return tag("p", [(f"{in_words(name)} ", slots.text(_brief(values.get(name))), "; ") for name in names])

    @property
    def _first(self) -> Sequence[tuple[str, Value]]:
        """Names and values of a candidate of the front: those of the others have the same form."""
        return next((trial.ask.candidate.items for trial in self.shown.results.members), ())

    def _layers(self, row: Row, slots: Slots) -> Markup | None:
        """Strip of the layers: what the candidate says of each, its tokens, and its MACs."""
        dimensions = {name: len(value) for name, value in self._first if isinstance(value, tuple)}
        counted = max((len(costs.macs) for costs in self.shown.layers.values()), default=0)
        slots_before = max(dimensions.values(), default=0) - counted if counted else 0  # the input is reduced too
        if not dimensions and not counted:
            return None
        lines = []
        for place in range(max(counted + max(slots_before, 0), *dimensions.values(), 0)):
            layer = place - max(slots_before, 0)
            cells = [self._candidate(row, name, place, slots) for name in dimensions]
            cells += self._work(row, layer, slots) if counted else []
            lines.append(tag("tr", tag("th", "input" if layer < 0 else layer + 1, scope="row"), cells))
        heading = ["layer", *map(in_words, dimensions)]
        heading += (
            ["tokens in attention", "in feed-forward", "share of its MACs", "MACs; pale: unreduced"] if counted else []
        )
        return _table("layers of the member", heading, lines)

    def _candidate(self, row: Row, name: str, place: int, slots: Slots) -> Markup:
        """Value of a dimension at a layer, shaded by a bar where it is a share."""
        values = dict(row.trial.ask.candidate.items).get(name)
        value = values[place] if isinstance(values, tuple) and place < len(values) else None
        shares = name in self._shares
        text = slots.text(_brief(value))
        bar = slots.bar(float(value) if isinstance(value, int | float) else 0.0) if shares else None
        return tag("td", tag("span", text, bar, class_="barred") if shares else text)

    @cached_property
    def _shares(self) -> set[str]:
        """Dimensions whose values are all in [0, 1]."""
        beyond = {
            name
            for trial in self.shown.results.members
            for name, value in trial.ask.candidate.items
            if not isinstance(value, tuple)
            or not all(isinstance(each, int | float) and 0 <= each <= 1 for each in value)
        }
        return {name for name, _ in self._first} - beyond

    def _work(self, row: Row, layer: int, slots: Slots) -> list[Markup]:
        """Cells of the work of a layer; the paler bar behind is the unreduced model's."""
        costs = self.shown.layers.get(row.key) if layer >= 0 else None
        texts, own = ["-", "-", "-"], 0.0
        if costs:
            tokens = (costs.attention[layer], costs.feed_forward[layer])
            texts = [*(f"{count:.1f}" for count in tokens), f"{100 * costs.share[layer]:.1f} %"]
            own = costs.macs[layer]
        cells = [tag("td", slots.text(text)) for text in texts]
        whole = self._unreduced.macs[layer] if self._unreduced and layer >= 0 else 0.0
        largest = max(self._unreduced.macs if self._unreduced else costs.macs if costs else (1.0,))
        return [*cells, tag("td", slots.bar(own / largest, whole / largest))]

    @property
    def _unreduced(self) -> LayerCosts | None:
        trial = self.shown.results.unreduced
        return self.shown.layers.get(trial.key) if trial else None

    def _commands(self, row: Row, slots: Slots) -> Markup:
        limits = self.picks.get(row.key)
        choose = pick_command(self.shown, limits) if limits else NO_PICK
        return tag(
            "div",
            [command(slots.text(text, "code")) for text in (choose, ship_command(self.shown, row.key))],
            class_="commands",
        )


def command(code: Markup) -> Markup:
    """Line of a command with a button that copies it."""
    return tag("p", code, " ", tag("button", "copy", type="button", class_="copy js"), class_="command")


def in_full(estimate: Estimate | None) -> str:
    """Format `0.874 (0.852 to 0.893)`: the value with its 95 % interval."""
    if estimate is None or estimate.interval is None:
        return plain(estimate)
    digits = decimals(estimate.standard_error)
    low, high = estimate.interval
    if digits is None or digits > SHOWN_DECIMALS:
        return plain(estimate)
    return f"{estimate.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def change(difference: Difference) -> str:
    """Format `-0.021 (-0.034 to -0.008)`: the difference with its 95 % interval, where it is not tiny."""
    if difference.low is not None and difference.high is not None:
        digits = decimals((difference.high - difference.low) / (2 * Z_95))
        if digits is not None and digits <= SHOWN_DECIMALS:
            low, high = (f"{end:+.{digits}f}" for end in (difference.low, difference.high))
            return f"{difference.value:+.{digits}f} ({low} to {high})"
    return f"{difference.value:+.4g}"


def plain(estimate: Estimate | None) -> str:
    """Format the value alone, with the decimals that its error leaves meaningful."""
    if estimate is None:
        return "-"
    digits = decimals(estimate.standard_error)
    return f"{estimate.value:.4g}" if digits is None or digits > SHOWN_DECIMALS else f"{estimate.value:.{digits}f}"


def _against(own: Estimate | None, whole: Estimate | None) -> str:
    """Difference to the unreduced model, of times the measured ratio."""
    if own is None or whole is None:
        return "-"
    ratio, low, high = (own.beside.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if is_timed(own) and ratio is not None and low is not None and high is not None:
        return f"{ratio:.3f} ({low:.3f} to {high:.3f}) of its time"
    return change(between(own, whole))


def _brief(value: Value) -> str:
    return "-" if value is None else " ".join(map(brief, value if isinstance(value, tuple) else (value,)))


def _table(label: str, heading: Sequence[str], lines: Sequence[Markup]) -> Markup:
    """Table that scrolls by itself where it is too wide."""
    head = tag("thead", tag("tr", [tag("th", text, scope="col") if text else tag("td") for text in heading]))
    return tag(
        "div", tag("table", head, tag("tbody", lines)), class_="wide", tabindex=0, role="region", aria_label=label
    )
