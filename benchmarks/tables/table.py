"""A complete table: quality and cost of every candidate of a space, with the outcome of each example.

N candidates, S examples of the search split, R of the report split.

One parquet file each, made by `benchmarks.tables.make`. A column per dimension of the space holds the candidate;
`accuracy` and `macs` are of the search split, `report_accuracy` and `report_macs` of the report split; `correct` and
`report_correct` are the outcomes example by example, 8 to a byte (`numpy.packbits`). The file's metadata has, under the
key `searchkit`, the study, its fingerprint, the space, the numbers of examples, machine, versions and date as JSON.

Where a space is too large, a table holds a sample of it (`sampled`), and an emulator (`benchmarks.tables.emulator`)
that is fitted to the sample answers for all; the metadata has its error on candidates that it was not fitted to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from benchmarks.tables.emulator import emulated_from
from searchkit.errors import StudyError
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.racing import SequentialTest
from searchkit.front import hypervolume, losses, nondominated
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial, wilson
from searchkit.space import Lengths, Space, Thresholds

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState

FOLDER = Path(__file__).parent / "data"
KEY = b"searchkit"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """Some examples of one candidate, as far as races read a subject: outcomes and costs of each."""

    correct: Floats
    costs: Floats


def _unmeasured(subject: Any) -> Estimate:
    raise StudyError("a table is looked up, not measured")


def _outcomes(seen: Any) -> Floats:
    return np.asarray(seen.correct)


def _costs(seen: Any) -> Floats:
    return np.asarray(seen.costs)


# named as a study's own, and known example by example, so that races can be held
ACCURACY = Objective("accuracy", "fraction", "higher", _unmeasured, examples=_outcomes)
MACS = Objective("macs", "of unreduced", "lower", _unmeasured, examples=_costs, traced=True)
OBJECTIVES: tuple[Objective, Objective] = (ACCURACY, MACS)


@dataclass(frozen=True, eq=False)
class Table:
    """Every candidate of a space, measured; of a space that is too large, what an emulator says of every candidate.

    candidates: N of them; qualities, costs: (N,) accuracy, and MACs of unreduced, on the search split; outcomes: (N, S)
    True where an example was answered correctly; report_...: the same of the report split. An emulated table has no
    outcomes and no report.

    >>> from benchmarks.tables import Table
    >>> table = Table.read("sst2")
    >>> table.space.width, len(table.candidates)
    (6, 792)
    """

    name: str
    about: dict[str, Any]
    space: Space
    candidates: tuple[Candidate, ...]
    qualities: Floats
    costs: Floats
    outcomes: NDArray[np.bool_] | None = None
    report_qualities: Floats | None = None
    report_costs: Floats | None = None
    report_outcomes: NDArray[np.bool_] | None = None

    @classmethod
    def read(cls, name: str, folder: Path = FOLDER) -> Table:
        """Read a table by its name; StudyError where there is none."""
        file = folder / f"{name}.parquet"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.parquet"))) or "none"
            raise StudyError(f"there is no table {name!r} in {folder}; there are: {known}")
        rows = parquet.read_table(file)
        about = json.loads(rows.schema.metadata[KEY])
        space = space_of(about["space"])
        columns = {own.name: rows[own.name].to_pylist() for own in space.dimensions}
        values = zip(*columns.values(), strict=True)
        candidates = tuple(Candidate.of(dict(zip(columns, value, strict=True))) for value in values)
        qualities, costs = rows["accuracy"].to_numpy(), rows["macs"].to_numpy()
        if about.get("sampled"):
            every = tuple(space.all())
            emulated = emulated_from(candidates, np.stack([qualities, costs], 1))(every)
            return cls(name, about, space, every, emulated[:, 0], emulated[:, 1])
        return cls(
            name,
            about,
            space,
            candidates,
            qualities,
            costs,
            _unpacked(rows["correct"].to_pylist(), about["examples"]),
            rows["report_accuracy"].to_numpy(),
            rows["report_macs"].to_numpy(),
            _unpacked(rows["report_correct"].to_pylist(), about["report_examples"]),
        )

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each candidate, by its key."""
        return {candidate.key: row for row, candidate in enumerate(self.candidates)}

    @cached_property
    def losses(self) -> Floats:
        """(N, 2) losses on the search split."""
        return np.stack([-self.qualities, self.costs], 1)

    @property
    def report_losses(self) -> Floats | None:
        """(N, 2) losses on the report split."""
        if self.report_qualities is None or self.report_costs is None:
            return None
        return np.stack([-self.report_qualities, self.report_costs], 1)

    @cached_property
    def reference(self) -> Floats:
        """(2,) the reference point of hypervolumes: the share of the largest class, and the unreduced cost."""
        return np.array([-self.about["chance"], 1.0 + 1e-9])

    @cached_property
    def volume(self) -> float:
        """Hypervolume of the whole table on the search split, which no search can exceed."""
        return hypervolume(self.losses[nondominated(self.losses)], self.reference)

    def cost(self, candidate: Candidate) -> float:
        """MACs of unreduced."""
        return float(self.costs[self.rows[candidate.key]])

    def evaluator(self, examples: Sequence[int] | None = None) -> TableEvaluator:
        """Evaluator on these examples of the search split; on all by default."""
        if examples is None:
            return TableEvaluator(self, self.qualities, self.about["examples"], self.outcomes)
        if self.outcomes is None:
            raise StudyError(f"{self.name}: an emulated table knows no single examples")
        some = self.outcomes[:, list(examples)]
        return TableEvaluator(self, some.mean(1), len(examples), some)


class TableEvaluator(Inline):
    """Evaluator that looks candidates up, with the same trials as a supernet gives, races included.

    looked_at: examples that it has looked at so far, over all candidates
    """

    def __init__(self, table: Table, qualities: Floats, examples: int, outcomes: NDArray[np.bool_] | None) -> None:
        self._rows, self._costs, self._qualities = table.rows, table.costs.tolist(), qualities.tolist()
        self._examples, self._outcomes = examples, outcomes
        self._order = np.random.default_rng(0).permutation(examples)
        self._halted = False
        self.looked_at = 0

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        """Look the asks up, in order."""
        for ask in asks:
            if not self._halted:
                yield self.trial(ask) if race is None else self._raced(ask, race)

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        waiting = list(more())
        while waiting:
            yield self.trial(waiting.pop(0))
            waiting.extend(more())

    def trial(self, ask: Ask) -> Trial:
        """Trial of one ask on all examples."""
        row, n = self._rows[ask.key], self._examples
        self.looked_at += n
        share = min(max(self._qualities[row], 0.0), 1.0)
        low, high = wilson(round(share * n), n)
        error = (share * (1 - share) / n) ** 0.5
        quality = Estimate(share, error, n, low=min(low, share), high=max(high, share))
        return Trial(ask, Measured({ACCURACY.name: quality, MACS.name: Estimate(self._costs[row], None, n)}), 0.0)

    def _raced(self, ask: Ask, race: RaceState) -> Trial:
        """Trial of one ask, shard by shard, as long as the race goes on."""
        if self._outcomes is None:
            raise StudyError("an emulated table knows no single examples, so that nothing can be raced")
        row = self._rows[ask.key]
        right = self._outcomes[row].astype(np.float64)
        costs = np.full(self._examples, self._costs[row])
        test = SequentialTest(race, costs)
        seen = 0
        for rows in np.array_split(self._order, race.looks + 1)[:-1] if race.incumbents else []:
            seen += len(rows)
            if verdict := test.stops(Seen(right[rows], costs[rows]), rows, rows):
                self.looked_at += seen
                return Trial(ask, verdict, 0.0)
        return replace(self.trial(ask), examples={ACCURACY.name: right, MACS.name: costs})


def losses_of(trials: Sequence[Trial]) -> Floats:
    """(n, 2) losses of measured trials."""
    return losses([trial.outcome.estimates for trial in trials if isinstance(trial.outcome, Measured)], OBJECTIVES)


def space_of(described: dict[str, Any]) -> Space:
    """Space from its description."""
    dimensions: list[Lengths | Thresholds] = []
    for own in described["dimensions"]:
        given = {name: value for name, value in own.items() if name != "dimension"}
        dimensions.append(Lengths(**given) if own["dimension"] == "lengths" else Thresholds(**given))
    return Space(*dimensions, last_idle=described["last_idle"])


def _unpacked(rows: Sequence[bytes], examples: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
    return np.unpackbits(packed, axis=1, count=examples).astype(bool)
