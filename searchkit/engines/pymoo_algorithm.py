"""Any genetic algorithm of pymoo as an engine: it selects parents and survivors, the space makes the candidates."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit._internal.checks import check_count, check_fields
from searchkit._internal.code import with_code
from searchkit.engines.base import LARGEST_POPULATION, Engine, checked_first
from searchkit.engines.evolution import Evolution, SpaceOperators, check_breeding, described
from searchkit.engines.survivors import PymooSurvivors
from searchkit.errors import QUOTED, StudyError, one_line
from searchkit.objective import Objective
from searchkit.records import Candidate
from searchkit.space import Genome, Space

if TYPE_CHECKING:
    from pymoo.algorithms.base.genetic import GeneticAlgorithm

LIBRARIES: Final = ("pymoo", "numpy", "scipy", "builtins")  # whose code is not in a fingerprint


@dataclass(frozen=True)
class PymooAlgorithm:
    """Genetic algorithm of pymoo, such as NSGA-III or SMS-EMOA, that selects parents and survivors.

    algorithm: an object that has not run, such as SMSEMOA(pop_size=24); it is copied, and never changed. Its sampling,
    crossover, mutation, repair and elimination of duplicates are not used: the space and the engine do what they do,
    with the other settings as in `NSGA2`. Nor are its termination, callback and output.

    StudyError for what cannot be driven so: algorithms without survival, such as MOEA/D, or with children of their own
    making, such as differential evolution; and those that fail for the objectives of the study.

    >>> from pymoo.algorithms.moo.sms import SMSEMOA
    >>> from searchkit import PymooAlgorithm
    >>> PymooAlgorithm(SMSEMOA(pop_size=12)).describe()["algorithm"]["class"]
    'pymoo.algorithms.moo.sms.SMSEMOA'
    """

    algorithm: GeneticAlgorithm
    crossover: float = 0.9
    mutation: float = 1.0
    first: Sequence[Candidate] = ()
    steady: bool = False
    bred: int = 8

    def __post_init__(self) -> None:
        check_fields(self)
        check_breeding(self)
        _check_drivable(self.algorithm)
        object.__setattr__(self, "algorithm", copy.deepcopy(self.algorithm))
        object.__setattr__(self, "first", checked_first(self.first))

    @property
    def population(self) -> int:
        return int(self.algorithm.pop_size)

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Rehearse selections among made-up losses; StudyError where the algorithm fails for so many objectives."""
        rng = np.random.default_rng(0)
        low, high = np.zeros(1, dtype=np.int64), np.full(1, 9, dtype=np.int64)
        algorithm = copy.deepcopy(self.algorithm)
        algorithm.pop_size = 4
        try:
            survivors = PymooSurvivors(algorithm, low, high, len(objectives), seed=0)
            for born in (1, 3, 6):
                survivors.tell(list(rng.integers(0, 10, (born, 1))), rng.random((born, len(objectives))))
            survivors.children(3, _unchanged)
        except Exception as error:  # whatever a library raises
            kind, names = type(algorithm).__name__, ", ".join(objective.name for objective in objectives)
            raise StudyError(
                f"PymooAlgorithm: {kind} cannot search these {len(objectives)} objectives, {names}: "
                f"{one_line(str(error) or repr(error), QUOTED)}"
            ) from error

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        self.check(space, objectives, plateau=False)
        survivors = PymooSurvivors(copy.deepcopy(self.algorithm), space.low, space.high, len(objectives), seed)
        vary = SpaceOperators(space, self.crossover, self.mutation)
        return Evolution(self, survivors, vary, space, objectives, seed)

    def describe(self) -> dict[str, Any]:
        """Describe the algorithm by all that it holds and uses here, the user's own code in it included."""
        from pymoo.algorithms.base.genetic import GeneticAlgorithm

        unused = vars(GeneticAlgorithm(pop_size=2))  # what every algorithm has, but pop_size (in `described`)
        parts = {name: value for name, value in vars(self.algorithm).items() if name not in unused}
        parts |= {"survival": self.algorithm.survival, "selection": self.algorithm.mating.selection}
        held: list[Any] = []
        settings = {name: _plain(value, held) for name, value in sorted(parts.items())}
        code = with_code({"class": _name(type(self.algorithm)), **settings}, *held)
        return {"engine": "pymoo", "algorithm": code, **described(self)}


def _check_drivable(algorithm: Any) -> None:
    """Raise StudyError unless this is a genetic algorithm whose children the space can make."""
    from pymoo.algorithms.base.genetic import GeneticAlgorithm
    from pymoo.core.mating import Mating

    kind = f"the class {algorithm.__name__}" if isinstance(algorithm, type) else type(algorithm).__name__
    if not isinstance(algorithm, GeneticAlgorithm) or algorithm.survival is None:
        raise StudyError(
            "PymooAlgorithm takes a genetic algorithm of pymoo with a survival, such as SMSEMOA(pop_size=24), "
            f"got {kind}"
        )
    if type(algorithm)._infill is not GeneticAlgorithm._infill or type(algorithm.mating) is not Mating:
        raise StudyError(f"PymooAlgorithm: {kind} makes its children in its own way, which the space cannot take over")
    if algorithm.problem is not None or algorithm.is_initialized:
        raise StudyError(f"PymooAlgorithm: this {kind} has run already, hand in a new one")
    check_count("PymooAlgorithm: pop_size", algorithm.pop_size, LARGEST_POPULATION, least=2)
    if algorithm.n_offsprings != algorithm.pop_size:
        raise StudyError(
            f"PymooAlgorithm: a generation has pop_size={algorithm.pop_size} children (with steady=True one), "
            f"leave out n_offsprings={algorithm.n_offsprings}"
        )
    for name, operator in _unused_operators(algorithm).items():
        raise StudyError(f"PymooAlgorithm: {name} comes from the space, leave it out of {kind}(...), got {operator!r}")


def _unused_operators(algorithm: GeneticAlgorithm) -> dict[str, Any]:
    """Operators that a class of pymoo has not by default: the user gave them, and they would change nothing."""
    if not type(algorithm).__module__.startswith("pymoo."):
        return {}
    defaults: dict[str, Any] = {}
    for cls in reversed(type(algorithm).__mro__):
        parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
        defaults |= {name: parameter.default for name, parameter in parameters.items()}
    mating = algorithm.mating
    used = {"sampling": algorithm.initialization.sampling, "crossover": mating.crossover, "mutation": mating.mutation}
    return {name: operator for name, operator in used.items() if _plain(operator, []) != _plain(defaults[name], [])}


def _plain(value: Any, held: list[Any]) -> Any:
    """JSON of what an algorithm holds: numbers and texts as such, arrays as lists, objects by class and attributes.

    held: objects, functions and classes of libraries or users on the way, for their code
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), held)
    if isinstance(value, Mapping):
        return {str(name): _plain(item, held) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, held) for item in value]
    return _described(value, held)


def _described(value: Any, held: list[Any]) -> Any:
    """Name of a function or class, those that a function wraps included; class and attributes of another object."""
    named = hasattr(value, "__qualname__")
    if str((value if named else type(value)).__module__).partition(".")[0] not in LIBRARIES:
        held.append(value)
    if isinstance(value, FunctionType):
        wrapped = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_name(value), *(_described(item, held) for item in wrapped if isinstance(item, FunctionType))]
    if named:
        return _name(value)
    attributes = getattr(value, "__dict__", {})
    return {"class": _name(type(value)), **{name: _plain(item, held) for name, item in sorted(attributes.items())}}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _unchanged(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    return a, b
