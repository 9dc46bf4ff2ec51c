"""Storages under fault: journals cut and overwritten, disks that are full or read-only, a database that is killed.

Every fault is tried on a store of known trials. `survived` counts the tries after which the store gives back every
trial it had reported (but the torn one, where a record was torn) or refuses in one clear line, and then goes on;
`lost`, `duplicated` and `wrong` count trials.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from searchkit.engines.random import Random
from searchkit.errors import StoreError
from searchkit.evaluate.inline import Inline
from searchkit.records import Trial
from searchkit.search.budget import Account, Budget
from searchkit.search.generational import search
from searchkit.storage.store import Store
from tests import analytic
from tests.disks import Disk, disk
from tests.postgresql import Server, missing, server
from tests.storage.samples import measured, opened

Row = dict[str, str | int]


@dataclass
class Tally:
    """Counts of the trials of one fault, by what became of them."""

    fault: str
    tried: int = 0
    survived: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0

    def add(self, expected: Sequence[Trial], stored: Sequence[Trial] | None, spare: int = 0) -> None:
        """Add one try: the trials that were reported, and those stored afterwards (None: a clear refusal).

        spare: how many of the last ones may be missing.
        """
        stored = expected if stored is None else stored
        keys, known = [trial.key for trial in stored], {trial.key: trial for trial in expected}
        lost = sum(trial.key not in keys for trial in expected[: len(expected) - spare])
        duplicated = len(keys) - len(set(keys))
        wrong = sum(known.get(trial.key) != trial for trial in stored)
        self.tried += 1
        self.survived += not (lost or duplicated or wrong)
        self.lost, self.duplicated, self.wrong = self.lost + lost, self.duplicated + duplicated, self.wrong + wrong

    def row(self) -> Row:
        return dict(vars(self))


def written(storage: str | Path, count: int) -> list[Trial]:
    """The trials of a new store."""
    store, trials = opened(storage), [measured(number) for number in range(count)]
    for trial in trials:
        store.append(trial)
    return trials


def cut(folder: Path, records: int = 3, step: int = 1) -> Row:
    """A journal cut at every byte of its last records."""
    journal, tally = folder / "journal.log", Tally("journal cut at a byte of its last records")
    trials, whole = written(journal, 4 + records), journal.read_bytes()
    ends = [place for place, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for end in range(ends[-records - 1], len(whole) + 1, step):
        journal.write_bytes(whole[:end])
        expected = trials[: len(trials) - sum(end < one for one in ends)]
        tally.add(expected, opened(journal, create=False).trials())
    return tally.row()


def damaged(folder: Path, tries: int = 200, seed: int = 0) -> Row:
    """Bytes overwritten somewhere in a journal: one digit by another, or up to 64 bytes by others."""
    journal, tally, chance = folder / "journal.log", Tally("random bytes inside a journal"), random.Random(seed)
    trials, whole = written(journal, 12), journal.read_bytes()
    digits = [place for place, byte in enumerate(whole) if chr(byte).isdigit()]
    for number in range(tries):
        if number % 2:
            place, size = chance.choice(digits), 1
            junk = bytes([chance.choice([digit for digit in b"0123456789" if digit != whole[place]])])
        else:
            size = chance.randint(1, 64)
            place, junk = chance.randrange(len(whole) - size), chance.randbytes(size)
        journal.write_bytes(whole[:place] + junk + whole[place + size :])
        hurt = range(whole.count(b"\n", 0, place) + 1, whole.count(b"\n", 0, place + size) + 2)
        last = whole.count(b"\n") in hurt
        with _refused(rf"line ({'|'.join(map(str, hurt))}) is damaged") as refused:
            refused.trials = opened(journal, create=False).trials()
        tally.add(trials, refused.trials, spare=int(last))
    return tally.row()


def full(folder: Path, tries: int = 10, seed: int = 0) -> Row:
    """A disk that is full in the middle of a search, a journal and SQLite in turns; then there is room again."""
    chance = random.Random(seed)

    def search_on(broken: Disk, storage: str, trials: list[Trial]) -> None:
        store = opened(storage)
        with broken.full(chance.randrange(40_000)):
            while True:
                store.append(measured(len(trials)))
                trials.append(measured(len(trials)))

    return _disks(folder, "disk full", tries, search_on, r"cannot store ask \d+ in .*(space|full|large)")


def read_only(folder: Path, tries: int = 10) -> Row:
    """A folder that is read-only when a search goes on, a journal and SQLite in turns; then it is well again."""

    def search_on(broken: Disk, storage: str, trials: list[Trial]) -> None:
        with broken.read_only():
            assert opened(storage, create=False).trials() == trials  # `status` works
            opened(storage).append(measured(len(trials)))

    return _disks(folder, "read-only folder", tries, search_on, r"cannot .*(Read-only|readonly|denied)")


def _disks(
    folder: Path, fault: str, tries: int, search_on: Callable[[Disk, str, list[Trial]], None], reason: str
) -> Row:
    tally = Tally(fault)
    for number in range(tries):
        with disk(folder / f"{fault} {number}") as broken:
            storage = f"{broken.folder}/journal.log" if number % 2 else f"sqlite:///{broken.folder}/run.db"
            trials = written(storage, 3)
            refused = True
            with _refused(reason):
                search_on(broken, storage, trials)
                refused = False
            assert refused, f"{fault}: nothing was refused"
            opened(storage).append(measured(len(trials)))  # the same command goes on
            trials.append(measured(len(trials)))
            tally.add(trials, opened(storage).trials())
    return tally.row()


def killed(database: Server, tries: int = 10, seed: int = 0, evaluations: int = 40) -> Row:
    """PostgreSQL killed in the middle of a search and started again; the search ends as an undisturbed one."""
    tally, chance = Tally("PostgreSQL killed and restarted"), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        expected = _searched(Store.open(f"{folder}/calm.log", "demo", analytic.OBJECTIVES), evaluations, pause_s=0)
    for _ in range(tries):
        url = database.new_database()

        def hurt(after_s: float = chance.uniform(0, 0.7)) -> None:
            time.sleep(after_s)
            database.stop(signal.SIGKILL)
            time.sleep(0.3)
            database.start()

        killer = threading.Thread(target=hurt)
        store = Store.open(url, "demo", analytic.OBJECTIVES)
        killer.start()
        _searched(store, evaluations, pause_s=0.01)
        killer.join()
        again = Store.open(url, "demo", analytic.OBJECTIVES, create=False)
        assert len(again._rows()) == evaluations, "a row came twice"
        tally.add(expected, [replace(trial, seconds=0.0) for trial in again.trials()])
    return tally.row()


def _searched(store: Store, evaluations: int, pause_s: float) -> list[Trial]:
    """The trials of a search without any model, each of which takes that long; by ask number, without their times."""
    engine = Random(population=8).start(analytic.SPACE, analytic.OBJECTIVES, seed=3)
    with Inline(analytic.FormulaWorkbench({}), analytic.OBJECTIVES) as evaluator:
        account = Account(Budget(evaluations), analytic.OBJECTIVES)
        search(engine, evaluator, store, account, population=8, on_trial=lambda trial: time.sleep(pause_s))
    return [replace(trial, seconds=0.0) for trial in store.trials()]


@dataclass
class _Outcome:
    trials: list[Trial] | None = None


@contextlib.contextmanager
def _refused(reason: str) -> Iterator[_Outcome]:
    """Let a StoreError of this kind, in one line, pass."""
    outcome = _Outcome()
    try:
        yield outcome
    except StoreError as error:
        if not re.search(reason, str(error)) or "\n" in str(error):
            raise


def rows(share: float = 1.0) -> list[Row]:
    """All faults; `share` of the tries."""
    count = max(2, round(10 * share))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = [cut(folder / "cut", step=round(1 / share)), damaged(folder / "damaged", round(200 * share))]
        tables += [full(folder, count), read_only(folder, count)]
    if reason := missing():
        print(f"PostgreSQL killed and restarted: skipped, {reason}")
        return tables
    with server() as database:
        return [*tables, killed(database, count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries, for a quick look")
    for row in rows(parser.parse_args().share):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
