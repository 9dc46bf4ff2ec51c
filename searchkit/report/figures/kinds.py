"""Kinds of figures by name, as `searchkit plot` and `Run.plot` know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from searchkit.errors import StudyError, unknown
from searchkit.report.figures.per_layer import heat_map, layers
from searchkit.report.figures.progress import convergence, hypervolume
from searchkit.report.figures.quality import pareto
from searchkit.report.figures.trade_offs import latency, parallel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Kind:
    """Figure that is drawn by `draw(runs, ax)`; several: of any number of runs, else of one."""

    draw: Callable[..., Axes]
    several: bool
    about: str


KINDS: Final[dict[str, Kind]] = {
    "pareto": Kind(pareto, True, "quality over cost with 95 % intervals, baselines and rivals"),
    "hypervolume": Kind(hypervolume, True, "hypervolume of the front so far, over evaluations"),
    "hypervolume-seconds": Kind(lambda *given: hypervolume(*given, over="seconds"), True, "the same over seconds"),
    "convergence": Kind(convergence, True, "how near runs, usually of several seeds, come to the best of them"),
    "lengths": Kind(heat_map, False, "lengths of each layer along the front"),
    "thresholds": Kind(lambda *given: heat_map(*given, dimension="thresholds"), False, "thresholds along the front"),
    "macs": Kind(layers, False, "MACs of each layer along the front"),
    "latency": Kind(latency, False, "times over MACs, with the line of full realisation"),
    "parallel": Kind(parallel, False, "members as lines through the values of all layers and objectives"),
}


def draw(kind: str, runs: Sequence[Any], ax: Axes | None = None, *, cost: str | None = None) -> Axes:
    """Draw a kind of figure of opened runs or results; StudyError for what these do not have.

    cost: of "pareto", an objective other than the search's

    >>> draw("pie", [])
    Traceback (most recent call last):
    searchkit.errors.StudyError: unknown figure 'pie' (known: convergence, hypervolume, hypervolume-seconds, ...
    """
    if kind not in KINDS:
        raise StudyError(unknown("figure", kind, KINDS))
    if len(runs) > 1 and not KINDS[kind].several:
        raise StudyError(f"{kind} is a figure of one run, got {len(runs)}")
    if cost is not None and kind != "pareto":
        raise StudyError(f"cost={cost!r} is of the figure pareto, not of {kind}")
    given = {} if cost is None else {"cost": cost}
    try:
        return KINDS[kind].draw(runs, ax, **given)
    except ValueError as error:
        raise StudyError(f"{kind}: {error}") from error
