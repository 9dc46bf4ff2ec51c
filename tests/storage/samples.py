"""Trials and storages for the tests of stores."""

from __future__ import annotations

from typing import Any

import optuna
from sqlalchemy.pool import NullPool

from searchkit.testing.storages import ACCURACY, MACS, OBJECTIVES, failed, measured, opened, pruned, unmeasurable

__all__ = [
    "ACCURACY",
    "MACS",
    "OBJECTIVES",
    "STORAGES",
    "failed",
    "measured",
    "opened",
    "optuna_storage",
    "optuna_study",
    "pruned",
    "unmeasurable",
]


STORAGES = {"journal": "{folder}/run/journal.log", "sqlite": "sqlite:///{folder}/run/trials.db", "postgresql": ""}


def optuna_storage(storage: str) -> Any:
    """Optuna's own, which keeps no connection open."""
    if "://" in storage:
        url = storage.replace("postgresql://", "postgresql+psycopg://")
        return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))


def optuna_study(storage: str) -> optuna.Study:
    """The study as Optuna itself and optuna-dashboard see it."""
    return optuna.load_study(study_name="demo", storage=optuna_storage(storage))
