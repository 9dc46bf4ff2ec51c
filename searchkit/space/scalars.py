"""Scalar dimensions: an integer in a range, one of several options."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchkit._internal.checks import check_fields
from searchkit.errors import StudyError
from searchkit.records import Candidate, Value
from searchkit.space.base import Genome, blend, power_law


@dataclass(frozen=True)
class Integer:
    """Integer from low to high, both included; its genome is the number itself.

    >>> from searchkit import Integer
    >>> Integer("depth", 1, 4).size
    4
    """

    name: str
    low: int
    high: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in (self.low, self.high)):
            raise StudyError(f"{self.name}: low and high must be integers, got {self.low=}, {self.high=}")
        check_fields(self)  # nor endless ones
        if self.low > self.high:
            raise StudyError(f"{self.name}: low must not exceed high, got {self.low=}, {self.high=}")

    @property
    def width(self) -> int:
        return 1

    @property
    def bounds(self) -> tuple[Genome, Genome]:
        return np.array([self.low], dtype=np.int64), np.array([self.high], dtype=np.int64)

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    @property
    def neutral(self) -> None:
        return None

    def bound(self, layers: int) -> Integer:
        return self

    def started(self, value: tuple[float, ...]) -> Integer:
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        return rng.integers(self.low, self.high + 1, size=(n, 1), dtype=np.int64)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        child = genome
        while self.size > 1 and child[0] == genome[0]:
            step = power_law(self.size - 1, rng) * (1 if rng.random() < 0.5 else -1)
            child = self.repair(genome + step)
        return child.copy()

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Exchange the numbers, or draw two between the parents."""
        return (b.copy(), a.copy()) if rng.random() < 0.5 else blend(a, b, rng)

    def repair(self, genome: Genome) -> Genome:
        return np.clip(genome, self.low, self.high)

    def decode(self, genome: Genome) -> int:
        return _inside(self, genome)

    def encode(self, value: Value) -> Genome:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must be an integer from {self.low} to {self.high}, got {value!r}")
        return np.array([value], dtype=np.int64)

    def genomes(self) -> Iterator[tuple[int, ...]]:
        return ((number,) for number in range(self.low, self.high + 1))

    def describe(self) -> dict[str, Any]:
        return {"dimension": "integer", "name": self.name, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Choice:
    """One of several unordered options; its genome is the index of the option.

    >>> from searchkit import Choice
    >>> Choice("fate", ["discard", "freeze"]).size
    2
    """

    name: str
    options: Sequence[Value]

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.options, Sequence) or isinstance(self.options, str):
            raise StudyError(f"{self.name}: options is a list of values, got {self.options!r}")
        try:
            options = tuple(Candidate.of(option=option)["option"] for option in self.options)
        except TypeError as error:
            raise StudyError(f"{self.name}: {error}") from error
        if not options or any(a == b for a, b in itertools.combinations(options, 2)):
            raise StudyError(f"{self.name}: options must be distinct and at least one, got {options=}")
        object.__setattr__(self, "options", options)

    @property
    def width(self) -> int:
        return 1

    @property
    def bounds(self) -> tuple[Genome, Genome]:
        return np.zeros(1, dtype=np.int64), np.array([len(self.options) - 1], dtype=np.int64)

    @property
    def size(self) -> int:
        return len(self.options)

    @property
    def neutral(self) -> None:
        return None

    def bound(self, layers: int) -> Choice:
        return self

    def started(self, value: tuple[float, ...]) -> Choice:
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        return rng.integers(self.size, size=(n, 1), dtype=np.int64)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return (genome + rng.integers(1, self.size)) % self.size if self.size > 1 else genome.copy()

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        return (b.copy(), a.copy()) if rng.random() < 0.5 else (a.copy(), b.copy())

    def repair(self, genome: Genome) -> Genome:
        return np.clip(genome, 0, self.size - 1)

    def decode(self, genome: Genome) -> Value:
        return self.options[_inside(self, genome)]

    def encode(self, value: Value) -> Genome:
        if value not in self.options:
            raise ValueError(f"{self.name} must be one of {list(self.options)}, got {value!r}")
        return np.array([self.options.index(value)], dtype=np.int64)

    def genomes(self) -> Iterator[tuple[int, ...]]:
        return ((index,) for index in range(self.size))

    def describe(self) -> dict[str, Any]:
        options = [list(option) if isinstance(option, tuple) else option for option in self.options]
        return {"dimension": "choice", "name": self.name, "options": options}


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise StudyError(f"a dimension's name must be an identifier, got {name=}")


def _inside(dimension: Integer | Choice, genome: Genome) -> int:
    """Number of a scalar dimension's genome, checked."""
    (low,), (high,) = dimension.bounds
    number = int(genome[0])
    if not low <= number <= high:
        raise ValueError(f"{dimension.name}: the genome must be from {low} to {high}, got {number}")
    return number
