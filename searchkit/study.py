"""Study: what is searched, on which data, for how long; the only configuration object, written in Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.checks import check_fields
from searchkit._internal.code import code_identity, with_code
from searchkit._internal.html import definitions, titled
from searchkit.errors import StudyError
from searchkit.evaluate.racing import RaceState, Racing
from searchkit.objective import Constraint, Objective
from searchkit.search.budget import Budget
from searchkit.space import Space
from searchkit.training.cache import describe_task
from searchkit.training.rivals import Depth, checked
from searchkit.training.supernet import Supernet

if TYPE_CHECKING:
    from searchkit.engines.base import EngineConfig, PublishedSearch
    from searchkit.tasks.base import Task
    from searchkit.training.recipe import Recipe


PLANNED: Final = ("lengths", "thresholds")  # the dimensions that plans are made of


@dataclass(frozen=True, kw_only=True)
class Study:
    """Configuration that decides the outcome of a search.

    `objectives` are what the search trades off, on the search split; `front_objectives` are measured on the final front
    only, beside the others, on the report split (latency, usually). `racing` stops candidates early that the front
    beats, where there are two objectives, a quality and a cost, that are known per example; None measures all in full.
    `constraints` say what no candidate may exceed, such as `Constraint(macs, at_most=0.5)`. The search stops with an
    error where more than the share `max_failures` of its evaluations failed, of 20 or more. `published` adds the front
    of the published search, made once on the same supernet and search split, to the baselines of the report. `rivals`
    are what could be served instead, measured beside the front on the report split, in the same turns: folders or hub
    names of models that are trained for the task, with the same label names, and `Depth()`.

    >>> from objectives import accuracy, macs
    >>> from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
    >>> from searchkit.tasks import Generated
    >>> from searchkit.training import FineTune
    >>> study = Study(
    ...     name="example",
    ...     task=Generated(),
    ...     supernet=Supernet(Scratch(layers=2), recipe=FineTune()),
    ...     space=Space(Lengths(levels=8)),
    ...     objectives=[accuracy, macs],
    ...     engine=NSGA2(population=8),
    ...     budget=Budget(evaluations=24),
    ... )
    >>> study.bound_space.size
    36
    """

    name: str
    task: Task
    supernet: Supernet
    space: Space
    objectives: Sequence[Objective]
    engine: EngineConfig
    budget: Budget
    front_objectives: Sequence[Objective] = ()
    constraints: Sequence[Constraint] = ()
    racing: Racing | None = field(default_factory=Racing)
    max_failures: float = 0.5
    published: PublishedSearch | None = None
    rivals: Sequence[str | Depth] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_parts()
        object.__setattr__(self, "rivals", checked(self.rivals))
        assert self._code is not None  # read now: a file that is edited later does not change what was loaded
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise StudyError(f"a study's name is made of letters, digits, '.', '_' and '-', got {self.name=}")
        if not self.objectives:
            raise StudyError("a study needs at least one objective, got none")
        names = [objective.name for objective in (*self.objectives, *self.front_objectives)]
        if len(set(names)) < len(names):
            raise StudyError(f"objectives must have different names, got {', '.join(names)}")
        if not 0 <= self.max_failures <= 1:
            raise StudyError(f"max_failures is a share in [0, 1], got {self.max_failures=}")
        self._check_timed()
        self._check_dimensions()
        self.supernet.check(self.task.head, self.space)
        self.engine.check(self.space, self.objectives, plateau=self.budget.plateau is not None)
        if self.budget.gain is not None and not getattr(self.engine, "expects_gains", False):
            raise StudyError(
                f"budget: gain is what the models of Surrogate() expect, and {type(self.engine).__name__} expects "
                "nothing; take Budget(plateau=Plateau(...))"
            )
        _check_published(self.published, self.supernet.recipe, self.objectives)
        if not 0 <= self.seed < 2**32:
            raise StudyError(f"seed must be in [0, 2**32), got {self.seed=}")

    def _check_parts(self) -> None:
        """Refuse fields that are no task, engine or list of objectives, whose protocols `isinstance` cannot check."""
        kinds = {
            "task": ("tables", "encode", "describe"),
            "engine": ("check", "start", "describe"),
            "published": ("start_at", "describe"),
        }
        for name, methods in kinds.items():
            part = getattr(self, name)
            if part is None and name == "published":
                continue
            if isinstance(part, type) or not all(callable(getattr(part, method, None)) for method in methods):
                raise StudyError(f"a study's {name} has the methods {', '.join(methods)}, got {part!r}")
        for name in ("objectives", "front_objectives", "constraints"):
            part, kind = getattr(self, name), Constraint if name == "constraints" else Objective
            if not isinstance(part, list | tuple) or not all(isinstance(item, kind) for item in part):
                hint = "; latency and memory are called: latency()" if kind is Objective else ""
                raise StudyError(f"{name} is a list of {kind.__name__}, got {part!r}{hint}")

    def _check_timed(self) -> None:
        """Refuse timed objectives where they are not timed in turns with the unreduced model."""
        modelled = "or use latency(during_search='modelled')"
        timed = [objective.name for objective in self.objectives if objective.exclusive]
        for objective in (constraint.objective for constraint in self.constraints):
            if objective.exclusive and objective.name not in timed:
                raise StudyError(
                    f"the constraint on {objective.name!r} needs it among the objectives, where it is timed in turns; "
                    f"{modelled}"
                )
        if self.engine.steady and timed:
            raise StudyError(
                f"a steady engine cannot search {timed[0]!r}, which is timed in turns after a generation: put it "
                f"into front_objectives, {modelled}"
            )

    def _check_dimensions(self) -> None:
        """Refuse a dimension that nothing reads: its values would count as candidates and measure the same."""
        objectives = [*self.objectives, *(constraint.objective for constraint in self.constraints)]
        read = {*PLANNED, *(name for objective in objectives for name in objective.reads)}
        for dimension in self.space.dimensions:
            if dimension.name not in read:
                raise StudyError(
                    f"nothing reads the dimension {dimension.name!r}: plans are made of {' and '.join(PLANNED)}; an "
                    f"objective that reads subject.candidate[{dimension.name!r}] says so: "
                    f"Objective(..., reads=[{dimension.name!r}])"
                )

    @property
    def bound_space(self) -> Space:
        """Bind the space to an encoder; where heads read [CLS] alone, dropping after the last attention is idle."""
        late = self.supernet.recipe.reducer_template.site != "before_attention"
        return self.space.bound(self.supernet.slots, last_idle=late and self.supernet.reads_first_only(self.task.head))

    @property
    def race(self) -> RaceState | None:
        """Race that stops new candidates early; None where it is off, or engine or objectives do not allow it."""
        return None if self.engine.steady else RaceState.of(self.racing, self.objectives)

    def _repr_html_(self) -> str:
        """Table for notebooks: the parts of the study."""
        return _html(self)

    def describe(self) -> dict[str, Any]:
        """Describe the search as JSON, the user's own code included; without what may change: budget,
        max_failures, front_objectives, and published and rivals, which change nothing of the search."""
        limits = [with_code(limit.describe(), limit) for limit in self.constraints]
        return {
            "name": self.name,
            "task": describe_task(self.task),
            "supernet": self.supernet.describe(),
            "space": with_code(self.bound_space.describe(), *self.space.dimensions),
            "objectives": [self.identity(objective) for objective in self.objectives],
            "engine": with_code(self.engine.describe(), self.engine),
            "racing": asdict(self.racing) if self.racing and self.race else None,
            "seed": self.seed,
            **({"constraints": limits} if limits else {}),
        }

    def identity(self, objective: Objective) -> dict[str, Any]:
        """Describe an objective of the study as JSON: modelled values are not those of the clock, and code of
        the user's own is part of it, as it was when the study was made."""
        modelled = {"modelled": True} if objective.modelled else {}
        code = self._code.get(objective.name)
        return {**objective.describe(), **modelled, **({"code": code} if code else {})}

    @cached_property
    def _code(self) -> dict[str, str | None]:
        """Objective -> identity of its code."""
        every = (*self.objectives, *self.front_objectives)
        return {objective.name: code_identity(objective) for objective in every}


def _html(study: Study) -> str:
    objectives = ", ".join(f"{axis.name} ({axis.better})" for axis in study.objectives)
    parts: dict[str, object] = {
        "task": study.task,
        "model": study.supernet.model,
        "recipe": study.supernet.recipe,
        "space": ", ".join(map(repr, study.space.dimensions)),
        "objectives": objectives,
        "on the front": ", ".join(axis.name for axis in study.front_objectives) or "the same",
        "constraints": ", ".join(map(str, study.constraints)) or "none",
        "engine": study.engine,
        "budget": study.budget,
        "seed": study.seed,
    }
    return titled(f"study {study.name}", definitions(parts))


def _check_published(published: PublishedSearch | None, recipe: Recipe, objectives: Sequence[Objective]) -> None:
    """Refuse a published search with a recipe or objectives that it does not know."""
    if published is None:
        return
    name = type(recipe).__name__
    if recipe.input is not None:
        raise StudyError(
            f"published: the published search has one length per layer, and {name}(input=...) has one before the "
            "first layer as well; leave out one of the two"
        )
    from searchkit.reduction.scorers import cost_is_placed

    if cost_is_placed(recipe.reducer_template.scorer):
        raise StudyError(f"published: the published search counts tokens, and with {name} the text decides on them")
    higher = next((objective for objective in objectives if objective.better == "higher"), None)
    if higher is None or higher.exclusive:
        raise StudyError(
            "published: the published search needs an objective that is better when higher and is not timed, got "
            f"{', '.join(objective.name for objective in objectives)}"
        )
