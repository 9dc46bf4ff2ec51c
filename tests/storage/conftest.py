"""A fresh storage of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgresql import Server
from tests.storage.samples import STORAGES


@pytest.fixture
def database(postgresql: Server) -> str:
    """The URL of an empty database, with its password."""
    return postgresql.new_database()


@pytest.fixture(params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_storage(request, request.param, tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def new_storage(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        return server.new_database()
    return STORAGES[kind].format(folder=folder)
