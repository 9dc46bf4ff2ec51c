"""Protocol of an engine, and the numbered asks that every engine keeps: never the same candidate twice."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Trial
from searchkit.space import Genome, Space

ENUMERABLE: Final = 20_000  # spaces up to this size are listed in full to choose from what is left
LARGEST_POPULATION: Final = 1_000_000  # a generation is held in memory
ROUNDS: Final = 8  # attempts at something new by chance before it is looked for


class Engine(Protocol):
    """A running search. Its asks depend only on the space, the seed, and the outcomes in their order."""

    def ask(self, n: int) -> list[Ask]:
        """Return the next n asks, numbered from 0 on; fewer, down to [], only where no other candidate is left."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """Accept outcomes in ask order; a candidate that was told before is ignored."""


class EngineConfig(Protocol):
    """An engine as a study names it: immutable, starts any number of running engines.

    One whose running engines have `expected_gain`, the share of the hypervolume that the best of the candidates asked
    for last is expected to add, or None before it knows, says so by `expects_gains = True`.
    """

    @property
    def population(self) -> int:
        """Candidates of one generation."""

    @property
    def steady(self) -> bool:
        """Return whether each outcome is followed by one more ask, rather than each generation by the next."""

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Raise StudyError where the engine cannot search this space for these objectives, or with a plateau."""

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        """Start the engine on a bound space."""

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the engine in a fingerprint."""


class PublishedSearch(EngineConfig, Protocol):
    """An engine whose whole search, as its authors published it, can be a baseline of a report."""

    @property
    def evaluations(self) -> int:
        """Maximum number of candidates in a whole search."""

    def start_at(
        self, space: Space, objectives: Sequence[Objective], seed: int, cost: Callable[[Candidate], float]
    ) -> Engine:
        """Start an engine that can compute a candidate's cost before it is measured."""


class Asks:
    """Numbered asks from generations of genomes, with a memory of every candidate that was asked or told.

    Generations are made whole and handed out piece by piece, so that a smaller ask is a prefix of a larger one: a
    search cut short by its budget goes on, with a larger budget, as if it had never stopped.
    """

    def __init__(self, space: Space, rng: np.random.Generator, first: Iterable[Candidate] = ()) -> None:
        self._space = space
        self._rng = rng
        self._first = deque(initial_genomes(space, first))
        self._seen: set[tuple[int, ...]] = set()  # genomes of generations or told trials
        self._told: set[tuple[int, ...]] = set()
        self._waiting: deque[Genome] = deque()
        self._open: dict[str, Genome] = {}  # open asks by key: asked and not told
        self._asked = 0

    def ask(self, n: int, generation: Callable[[], Iterable[Genome]]) -> list[Ask]:
        """The next n asks; `generation` makes more genomes, all admitted here, whenever none wait."""
        asks: list[Ask] = []
        while len(asks) < n:
            if not self._waiting:
                self._waiting.extend(generation())
            if not self._waiting:
                break
            genome = self._waiting.popleft()
            if _key(genome) not in self._told:
                asks.append(Ask(self._asked, self._space.decode(genome)))
                self._open[asks[-1].key] = genome
                self._asked += 1
        return asks

    def register(self, trial: Trial) -> Genome | None:
        """Register a trial's candidate and return its genome, or None when it was told before."""
        genome = self._open.pop(trial.key, None)
        if genome is None:
            genome = self._space.encode(trial.ask.candidate)
        key = _key(genome)
        if key in self._told:
            return None
        self._told.add(key)
        self._seen.add(key)
        return genome

    def admit(self, genomes: Iterable[Genome], at_most: int) -> list[Genome]:
        """Select, and remember, the first `at_most` genomes whose candidates are new, in canonical form."""
        new: list[Genome] = []
        for genome in map(self._space.canonical, genomes):
            if len(new) == at_most:
                break
            if (key := _key(genome)) not in self._seen:
                self._seen.add(key)
                new.append(genome)
        return new

    def unseen(self, genomes: Genome) -> Genome:
        """(N, W) those of the genomes that are new, once each, in canonical form."""
        canonical = {_key(genome): genome for genome in map(self._space.canonical, genomes)}
        new = [genome for key, genome in canonical.items() if key not in self._seen]
        return np.array(new, dtype=np.int64).reshape(len(new), self._space.width)

    @property
    def open(self) -> list[Genome]:
        """Genomes that are asked and not told."""
        return list(self._open.values())

    @property
    def admitted(self) -> int:
        """Number of candidates that were made or told so far."""
        return len(self._seen)

    @property
    def are_given(self) -> bool:
        """Return whether initial candidates are left."""
        return bool(self._first)

    def fresh(self, n: int) -> list[Genome]:
        """Return n new genomes, the initial ones and then samples; fewer only where no other is left."""
        given = [self._first.popleft() for _ in range(min(n, len(self._first)))]
        new = self.admit(given, n)
        for _ in range(ROUNDS):
            if len(new) == n:
                return new
            new += self.admit(self._space.sample(n, self._rng), n - len(new))
        return new + self._remaining(n - len(new))

    def _remaining(self, n: int) -> list[Genome]:
        """Return n genomes from the enumeration of the space, after at most `seen` + n steps."""
        unseen = (genome for genome in self._space.genomes() if genome not in self._seen)
        if self._space.size > ENUMERABLE:
            chosen = list(itertools.islice(unseen, n))
        else:
            left = list(unseen)
            chosen = [left[i] for i in self._rng.permutation(len(left))[:n]]
        return self.admit((np.array(genome, dtype=np.int64) for genome in chosen), n)


def checked_first(first: Any) -> tuple[Candidate, ...]:
    """Initial candidates of an engine's settings; StudyError where they are something else."""
    if not isinstance(first, Sequence) or not all(isinstance(candidate, Candidate) for candidate in first):
        raise StudyError(f"first is made of Candidate.of(...), got {first!r}")
    return tuple(first)


def initial_genomes(space: Space, first: Iterable[Candidate]) -> list[Genome]:
    """Genomes of initial candidates; a dimension that one leaves out is neutral. StudyError for an illegal one."""
    genomes = []
    for candidate in first:
        try:
            genomes.append(space.encode(space.completed(candidate)))
        except ValueError as error:
            raise StudyError(f"first: {error}") from None
    return genomes


def _key(genome: Genome) -> tuple[int, ...]:
    return tuple(genome.tolist())
