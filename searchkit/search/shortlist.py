"""Candidates of a search that may belong on the true front, though luck with the examples hides it.

A search sees each candidate through a few hundred examples. Whoever is lucky there dominates whoever is not, so that
the front consists of lucky ones, and where the cheap are luckiest it ends early. So more than the front is measured on
the report split: the candidates that together promise most of the true front's hypervolume. Their values are those of a
model of all outcomes, since neighbours tell what of a value was luck, moved by what other examples would have said:
number r of all candidates' resamples is of the same examples, so that what is hard for all of them moves all of them.

N measured candidates, K of the shortlist, R resamples, M objectives.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchkit.engines.outlook import Outlook
from searchkit.front import Array, hypervolume, losses, losses_of, nondominated
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Pruned, Trial
from searchkit.space import Space

Flags = NDArray[np.bool_]

LOOKED_AT: Final = 64  # candidates that are compared on resamples
OFFERED: Final = 36  # candidates that the report split is asked about, unless the front alone has more
LEAST_GAIN: Final = 0.001  # share of the hypervolume that one more candidate has to promise
FAR: Final = 4.0  # standard errors behind the front, or the best, that nobody comes back from
MARGIN: Final = 0.1  # share of the range of a cost that is left beyond the dearest
DRAWS: Final = 100  # resamples that gains are averaged over


@dataclass(frozen=True)
class Shortlist:
    """Measured candidates near the front, nearest first, with what a model of all outcomes says of them.

    losses: (K, M); errors: (M,) standard errors of one value; 0 for objectives that no luck touches
    """

    trials: tuple[Trial, ...]
    losses: Array
    errors: Array
    objectives: tuple[Objective, ...]

    @classmethod
    def of(cls, space: Space, objectives: Sequence[Objective], trials: Sequence[Trial]) -> Shortlist:
        """Shortlist of a search: its front, and whoever is few standard errors behind it."""
        measured = [trial for trial in trials if isinstance(trial.outcome, Measured)]
        if not measured:
            return cls((), np.zeros((0, len(objectives))), np.zeros(len(objectives)), tuple(objectives))
        every = losses([trial.estimates for trial in measured], objectives)
        errors = np.array([_error(measured, objective) for objective in objectives])
        hopeful = np.flatnonzero(_behind(every, errors) < 2 * FAR)  # of many thousands, few are worth a model's look
        measured, every = [measured[row] for row in hopeful], every[hopeful]
        front = nondominated(every)
        values = _without_luck(space, objectives, trials, measured, every, errors > 0)
        behind = _behind(values, errors)
        order = sorted(range(len(measured)), key=lambda row: (not front[row], behind[row], measured[row].ask.number))
        near = [row for row in order if front[row] or behind[row] < FAR][: max(LOOKED_AT, int(front.sum()))]
        return cls(tuple(measured[row] for row in near), values[near], errors, tuple(objectives))

    @property
    def compared(self) -> list[Objective]:
        """Objectives in which resamples tell candidates apart."""
        return [
            objective
            for objective, error in zip(self.objectives, self.errors, strict=True)
            if error and objective.resample is not None
        ]

    def offered(self, resampled: Mapping[str, Trial]) -> dict[str, float]:
        """Chance of each candidate to be on the true front, by key, of those that are worth a look on the report split.

        resampled: the shortlist's trials with resamples, by key; one that is missing keeps the model's value
        """
        if not self.trials:
            return {}
        draws = self._draws(resampled)
        chances = np.mean([_on_front(draw) for draw in draws], axis=0)
        raw = losses([trial.estimates for trial in self.trials], self.objectives)
        front = np.flatnonzero(nondominated(raw)).tolist()
        chosen = _most_promising(draws[:DRAWS], front, self._reference(draws))
        return {self.trials[row].key: float(chances[row]) for row in chosen}

    def _reference(self, draws: Array) -> Array:
        """(M,) reference point of the hypervolume: the range in which users choose, near the best in what is noisy."""
        points = draws.reshape(-1, len(self.objectives))
        low, high = points.min(axis=0), points.max(axis=0)
        beyond = high + MARGIN * np.where(high > low, high - low, np.abs(high))
        return np.asarray(
            np.where(self.errors > 0, np.minimum(beyond, self.losses.min(axis=0) + FAR * self.errors), beyond)
        )

    def _draws(self, resampled: Mapping[str, Trial]) -> Array:
        """(R, K, M) losses: the model's values, moved as the resamples move."""
        moved = []
        for number, objective in enumerate(self.objectives):
            own = [_moves(resampled.get(trial.key), objective) for trial in self.trials]
            count = max((len(moves) for moves in own), default=0)
            if not self.errors[number] or not count:
                moved.append(self.losses[None, :, number])
                continue
            even = np.stack([moves if len(moves) == count else np.zeros(count) for moves in own], 1)  # (R, K)
            moved.append(self.losses[:, number] + losses_of(objective, even))
        shape = np.broadcast_shapes(*(column.shape for column in moved))
        return np.stack([np.broadcast_to(column, shape) for column in moved], axis=2)


def _error(trials: Sequence[Trial], objective: Objective) -> float:
    """Largest standard error that the objective has; 0 for one that is exact."""
    return max(trial.estimates[objective.name].standard_error or 0.0 for trial in trials)


def _without_luck(
    space: Space,
    objectives: Sequence[Objective],
    trials: Sequence[Trial],
    measured: Sequence[Trial],
    every: Array,
    noisy: Flags,
) -> Array:
    """(N, M) losses of the measured trials: noisy ones as a model of all outcomes has them, others as measured."""
    outlook = Outlook(space, objectives)
    for trial in trials:
        if isinstance(trial.outcome, Measured):
            outlook.tell(space.encode(trial.ask.candidate), trial.outcome.estimates)
        elif isinstance(trial.outcome, Pruned):
            outlook.tell_part(space.encode(trial.ask.candidate), trial.outcome.seen)
    if not outlook.is_known or not noisy.any():
        return every
    genomes = np.array([space.encode(trial.ask.candidate) for trial in measured])
    return np.where(noisy, outlook.view().predict(genomes)[0], every)


def _behind(values: Array, errors: Array) -> Array:
    """(N,) standard errors by which the front dominates each row of (N, M); 0 or less for its own members.

    An exact objective decides by itself: who is better in one is not dominated.
    """
    member = nondominated(values)
    if not errors.any():
        return np.where(member, 0.0, np.inf)
    front = values[member]
    worse = values[:, None] - front[None]  # (N, K, M)
    exact, noisy = errors == 0, errors > 0
    ahead = (worse[:, :, exact] < 0).any(axis=2)
    margin = (worse[:, :, noisy] / errors[noisy]).min(axis=2)
    return np.asarray(np.where(ahead, -np.inf, margin).max(axis=1))


def _moves(trial: Trial | None, objective: Objective) -> Array:
    """(R,) by how much each resample departs from the value; empty without resamples."""
    estimate: Estimate | None = trial.estimates.get(objective.name) if trial else None
    if estimate is None:
        return np.zeros(0)
    values = np.array([np.nan if value is None else value for value in estimate.resamples])
    return np.nan_to_num(values - estimate.value)


def _on_front(points: Array) -> Flags:
    """(K,) True for the rows of (K, M) that nothing dominates; equal rows share the result."""
    distinct, index = np.unique(points, axis=0, return_inverse=True)
    return nondominated(distinct)[index.reshape(-1)]


def _most_promising(draws: Array, chosen: list[int], reference: Array) -> list[int]:
    """Rows that together are expected to hold most of the hypervolume, those `chosen` first, in order of what they add.

    What a row adds only falls as others are chosen before it, so that few have to be computed again (Minoux 1978).
    """
    count = draws.shape[1]

    def volume(rows: Sequence[int]) -> float:
        return float(np.mean([hypervolume(draw[list(rows)], reference) for draw in draws])) if rows else 0.0

    held = volume(chosen)
    queue = [(-np.inf, row) for row in range(count) if row not in chosen]
    while queue and len(chosen) < OFFERED:
        _, row = heapq.heappop(queue)
        gain = volume([*chosen, row]) - held
        if queue and -queue[0][0] > gain:
            heapq.heappush(queue, (-gain, row))
            continue
        if gain < LEAST_GAIN * (held + gain):
            break
        chosen, held = [*chosen, row], held + gain
    return chosen
