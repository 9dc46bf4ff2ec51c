"""The evolutionary search of the Length-Adaptive Transformer (Kim and Cho, ACL 2021, arXiv 2010.07003), as published.

A genome is the level of each layer's length; where the levels are the token counts 2, 3, ... L, operators and random
numbers are the published ones, one by one: `tests/golden` replays a whole search of the authors' code.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from searchkit._internal.checks import check_count, check_fields
from searchkit.engines.base import LARGEST_POPULATION, Asks, Engine
from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Trial
from searchkit.space import Genome, Lengths, Space
from searchkit.space.levels import Level, nearest

ATTEMPTS: Final = 100  # at a new child, for each that is wanted; where all fail the neighbourhood is exhausted
MOST_ITERATIONS: Final = 100_000
_SLACK: Final = 1e-9  # so that ceil(0.8 * 10) is 8

Cost = Callable[[Candidate], float]
_Key = tuple[int, ...]  # a canonical genome


@dataclass(frozen=True)
class LAT:
    """`iterations` times `mutations` mutants and `crossovers` means of two parents, after a first population of
    `initial` constant ratios between two bounds: nothing dropped, and `drop` of the tokens at every layer.

    mutation: the probability of a layer to change; nothing cheaper than the lower bound is asked for. After the last
    iteration nothing is.

    Parents are the published front: cheapest first, what is better than all before, and the dearest whether dominated
    or not. As published, too, a child may have parents of its own iteration; one that was measured earlier and left the
    front comes back without another evaluation; and what the lower bound turns down is not remembered.

    Not as published: the first population is made for the encoder's own number of layers and the space's own longest
    length instead of 12 and 384; a child is given up after 100 attempts where it looped for ever; a failed or pruned
    candidate is no parent, and where nothing was measured at all, parents are the upper bound. A space of shares is
    searched by the same operators, level by level instead of token by token. The lower bound's cost is counted in
    BERT's proportions, token by token, without the part of attention that is quadratic; `start_at` takes another.
    """

    iterations: int = 30
    initial: int = 20
    mutations: int = 30
    crossovers: int = 30
    mutation: float = 0.5
    drop: float = 0.2

    def __post_init__(self) -> None:
        check_fields(self)
        check_count("LAT: iterations", self.iterations, MOST_ITERATIONS)
        for name in ("initial", "mutations", "crossovers"):
            check_count(f"LAT: {name}", getattr(self, name), LARGEST_POPULATION)
        if not (0 < self.mutation <= 1 and 0 < self.drop < 1):
            raise StudyError(
                f"LAT: mutation is a probability in (0, 1], drop a share in (0, 1), got {self.mutation=}, {self.drop=}"
            )

    @property
    def population(self) -> int:
        """Maximum number of candidates in an iteration; the first population is one."""
        return max(self.initial + 2, self.mutations + self.crossovers)

    @property
    def steady(self) -> bool:
        return False

    @property
    def evaluations(self) -> int:
        """Maximum number of candidates in a whole search."""
        return self.initial + 2 + self.iterations * (self.mutations + self.crossovers)

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Raise StudyError unless the space is lengths alone, with a quality and a cost, and no plateau is set."""
        _lengths_of(space)
        _axes(objectives)
        if plateau:
            raise StudyError(
                "LAT: a plateau is judged after generations of one size, and LAT's differ; give it fewer iterations"
            )

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        return self.start_at(space, objectives, seed, functools.partial(_proportional, _lengths_of(space)))

    def start_at(self, space: Space, objectives: Sequence[Objective], seed: int, cost: Cost) -> Engine:
        """Start an engine that compares candidates with the lower bound by `cost` before it asks for them."""
        return _Evolution(self, space, objectives, seed, cost)

    def describe(self) -> dict[str, Any]:
        return {"engine": "lat", **asdict(self)}


class _Evolution:
    """Running engine. An iteration is a generation, whose children depend on randomness alone once it has begun."""

    def __init__(self, config: LAT, space: Space, objectives: Sequence[Objective], seed: int, cost: Cost) -> None:
        self._config, self._space = config, space
        self._lengths = _lengths_of(space)
        self._quality, self._cost = _axes(objectives)
        # the published code draws from both: parents and lengths from Python's, whether a layer mutates from numpy's
        self._random, self._uniform = random.Random(seed), np.random.RandomState(seed)
        self._asks = Asks(space, np.random.default_rng(seed))
        self._cost_of = cost
        self._upper = self._key(space.high)
        self._lower = self._key(self._constant(config.drop))
        self._floor = self._known_cost(self._lower)
        self._left = config.iterations + 1  # iterations to come, the first population being one
        self._population: list[_Key] = []
        self._measured: dict[_Key, tuple[float, float]] = {}  # cost and quality

    def ask(self, n: int) -> list[Ask]:
        """Return the next asks of the iteration; those of the next one depend on its outcomes."""
        asks = self._asks.ask(n, list)
        while n and not asks and self._left:
            made = iter([self._iteration()])
            asks = self._asks.ask(n, functools.partial(next, made, []))
        return asks

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            genome = self._asks.register(trial)
            if genome is not None and isinstance(trial.outcome, Measured):
                key, estimates = self._key(genome), trial.outcome.estimates
                self._measured[key] = estimates[self._cost.name].value, estimates[self._quality.name].value
                if key not in self._population:
                    self._population.append(key)

    def _iteration(self) -> list[Genome]:
        """Genomes to evaluate; this is the last iteration where the neighbourhood of the front is exhausted."""
        first, self._left = self._left > self._config.iterations, self._left - 1
        if first:
            return self._first()
        self._population = self._front()
        before, fresh = len(self._population), list[Genome]()
        for wanted, child in ((self._config.mutations, self._mutant), (self._config.crossovers, self._mean)):
            attempts, reached = ATTEMPTS * wanted, len(self._population) + wanted
            while attempts and len(self._population) < reached:
                fresh += self._taken(child())
                attempts -= 1
        if len(self._population) == before:
            self._left = 0
        return fresh

    def _first(self) -> list[Genome]:
        """Both bounds, and constant ratios whose mean lengths lie evenly between theirs."""
        lowest, whole = self._mean_length(self._config.drop), self._mean_length(0.0)
        shares = [share / (self._config.initial + 1) for share in range(1, self._config.initial + 1)]
        ratios = [self._ratio(lowest + (whole - lowest) * share) for share in shares]
        keys = [self._lower, self._upper, *(self._key(self._constant(ratio)) for ratio in ratios)]
        new = self._asks.admit(map(np.array, keys), len(keys))
        self._population += map(self._key, new)
        return new

    def _front(self) -> list[_Key]:
        """Front by the authors' sweep over (cost, quality): strict improvements, and always the last point."""
        ordered = sorted((key for key in self._population if key in self._measured), key=self._measured.__getitem__)
        front = ordered[:1] or [self._upper]
        for key in ordered[1:-1]:
            if self._measured[key][1] > self._measured[front[-1]][1]:
                front.append(key)
        return front + ordered[1:][-1:]

    def _taken(self, child: list[int]) -> list[Genome]:
        """Add a child to the population where it is new; returned as a list where it has to be evaluated."""
        key = self._key(np.array(child, dtype=np.int64))
        if key in self._population:
            return []
        known = key in self._measured
        new = [] if known or self._known_cost(key) < self._floor else self._asks.admit([np.array(key)], 1)
        if known or new:
            self._population.append(key)
        return new

    def _mutant(self) -> list[int]:
        """Mutant: each layer is redrawn with some probability between the parent's next length and its own last one."""
        parent = self._random.choice(self._population)
        low, high, child = self._space.low.tolist(), self._space.high.tolist(), list[int]()
        for layer, level in enumerate(parent):
            if self._uniform.rand() < self._config.mutation:
                after, before = parent[layer + 1 : layer + 2], child[-1:]
                level = self._random.randint(max([low[layer], *after]), min([high[layer], *before]))
            child.append(level)
        return child

    def _mean(self) -> list[int]:
        """Mean of two parents, rounded half up; of a single one, that one."""
        mother, father = self._random.sample(self._population, 2) if len(self._population) > 1 else self._population * 2
        return [(a + b + 1) // 2 for a, b in zip(mother, father, strict=True)]

    def _key(self, genome: Genome) -> _Key:
        return tuple(self._space.canonical(genome).tolist())

    def _known_cost(self, key: _Key) -> float:
        return self._cost_of(self._space.decode(np.array(key)))

    def _constant(self, drop: float) -> Genome:
        """Legal genome nearest to a constant ratio."""
        lengths = self._lengths
        return lengths.repair(nearest(self._ratio_lengths(drop), lengths.values, lengths.width))

    def _ratio_lengths(self, drop: float) -> Sequence[Level]:
        whole = self._lengths.values[-1]
        if self._lengths.basis == "tokens":
            return constant_ratio(int(whole), self._lengths.width, drop)
        return [whole * (1 - drop) ** layer for layer in range(1, self._lengths.width + 1)]

    def _mean_length(self, drop: float) -> float:
        return float(np.mean(self._ratio_lengths(drop)))

    def _ratio(self, mean: float) -> float:
        """Drop ratio of a mean length, by bisection; where lengths jump, the longer side."""
        low, high = 0.0, self._config.drop
        for _ in range(30):  # no further: jumps that fall together are apart by what `_SLACK` makes of them
            middle = (low + high) / 2
            low, high = (middle, high) if self._mean_length(middle) >= mean else (low, middle)
        return low


def constant_ratio(tokens: int, layers: int, drop: float) -> tuple[int, ...]:
    """LAT's deterministic length configuration: n_l = ceil(n_(l-1) * (1 - drop)), from `tokens`."""
    rounded = itertools.accumulate(range(layers), lambda n, _: math.ceil(n * (1 - drop) - _SLACK), initial=tokens)
    return tuple(rounded)[1:]


def _proportional(lengths: Lengths, candidate: Candidate) -> float:
    """MACs in units of 4 d^2: a token costs 1 in a layer's attention, and 2 in its feed-forward part (4 d wide)."""
    kept = candidate["lengths"]
    assert isinstance(kept, tuple)
    given = (lengths.values[-1], *kept[:-1])
    return math.fsum(float(n) + 2 * float(m) for n, m in zip(given, kept, strict=True))  # type: ignore[arg-type]


def _lengths_of(space: Space) -> Lengths:
    """Lengths of the space; StudyError where it has other dimensions."""
    only = space.dimensions[0]
    if len(space.dimensions) > 1 or not isinstance(only, Lengths):
        names = ", ".join(dimension.name for dimension in space.dimensions)
        raise StudyError(f"LAT searches a space of Lengths alone, got {names}")
    return only


def _axes(objectives: Sequence[Objective]) -> tuple[Objective, Objective]:
    """The first quality and the first cost; StudyError where one of them is missing."""
    firsts = {objective.better: objective for objective in reversed(objectives)}
    if len(firsts) < 2:
        raise StudyError(
            "LAT trades a quality for a cost: it needs an objective that is better when higher and one that is better "
            f"when lower, got {', '.join(objective.name for objective in objectives)}"
        )
    return firsts["higher"], firsts["lower"]
