"""Trials and storages for the tests of stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.pool import NullPool

from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.storage.store import Store


def unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("a store measures nothing")


ACCURACY = Objective("accuracy", "fraction", "higher", unmeasurable)
MACS = Objective("macs", "of unreduced", "lower", unmeasurable)
OBJECTIVES = (ACCURACY, MACS)
STORAGES = {"journal": "{folder}/run/journal.log", "sqlite": "sqlite:///{folder}/run/trials.db", "postgresql": ""}


def opened(storage: str | Path, **options: Any) -> Store:
    return Store.open(str(storage), "demo", OBJECTIVES, **options)


def measured(number: int, **candidate: Any) -> Trial:
    estimates = {
        "accuracy": Estimate(0.5 + number / 1000, 0.01, 872),
        "macs": Estimate(1 / (number + 3), None, 872, {"macs_per_example": 1.5e9, "padded": 0.1}),
    }
    values = candidate or {"lengths": (1.0, 1 / (number + 1)), "heads": number}
    return Trial(Ask(number, Candidate.of(values)), Measured(estimates), 0.25, {"device": "cpu", "threads": 2})


def failed(number: int) -> Trial:
    return Trial(Ask(number, Candidate.of(heads=number)), Failed("nan", "loss is NaN", "line 1\nline 2"), 1.0)


def pruned(number: int) -> Trial:
    return Trial(Ask(number, Candidate.of(heads=number)), Pruned("dominated", 256), 0.1)


def optuna_storage(storage: str) -> Any:
    """Optuna's own, which keeps no connection open."""
    if "://" in storage:
        url = storage.replace("postgresql://", "postgresql+psycopg://")
        return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))


def optuna_study(storage: str) -> optuna.Study:
    """The study as Optuna itself and optuna-dashboard see it."""
    return optuna.load_study(study_name="demo", storage=optuna_storage(storage))
