"""Databases that hold a store: their drivers, and retries while one is away. SQLAlchemy appears here only."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from searchkit._internal.files import held_lock
from searchkit.errors import NothingStoredError, StoreError
from searchkit.storage.address import StorageAddress, root_of

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_S: Final = 60.0  # retry limit for a database that answered this process before
BUSY_S: Final = 5.0  # SQLite waits so long for a lock before it fails
_PAUSES_S: Final = (0.1, 5.0)  # between two tries, doubling from the first to the second
_ANSWERED: Final[set[str]] = set()  # storages
_DRIVER: Final = "postgresql+psycopg"  # psycopg 3, whatever SQLAlchemy would take
_SERVER: Final = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_PASSING: Final = ("08", "40", "53300", "57P")  # of PostgreSQL: connection, deadlock, no room for one more, restart
_TURNED_AWAY: Final = re.compile(r"password|authentication|pg_hba|does not exist", re.IGNORECASE)


class AwayError(Exception):
    """Temporary failure: the database does not answer, or something holds a lock; the cause has the details."""


class RefusedError(Exception):
    """Permanent failure: the database refused, and would again; the cause has the reason."""


def connection(address: StorageAddress, create: bool) -> tuple[str, dict[str, Any]]:
    """URL with our driver, and connection options; StoreError where a file cannot be made, or is missing."""
    from sqlalchemy import make_url

    url = make_url(address.storage)
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise StoreError(
                f"{address} is in memory and would be lost with the process: name a file, sqlite:///run.db"
            )
        if not create and not Path(url.database).exists():
            raise NothingStoredError(f"there is no store at {address}")
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        options = {"timeout": BUSY_S}
    elif url.drivername in ("postgres", "postgresql"):
        url, options = url.set(drivername=_DRIVER), dict(_SERVER)
    return url.render_as_string(hide_password=False), options


def has_tables(url: str, options: dict[str, Any]) -> bool:
    """Return whether a store was ever made in the database."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url, connect_args=options)
    try:
        return bool(inspect(engine).has_table("studies"))
    finally:
        engine.dispose()


@contextmanager
def table_lock(address: StorageAddress, create: bool) -> Iterator[None]:
    """Lock an SQLite file while tables are made in it: two processes at once would break each other's."""
    from sqlalchemy import make_url

    url = make_url(address.storage)
    if not create or url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        yield
        return
    path, until = Path(url.database), time.monotonic() + PATIENCE_S

    def waiting() -> None:
        if time.monotonic() > until:
            raise StoreError(f"{address}: another process makes its tables for more than {PATIENCE_S:.0f} s")

    with held_lock(path.with_name(f".{path.name}.lock"), waiting, every_s=0.05):
        yield


def classify_errors(engine: Any) -> None:
    """Make the engine raise AwayError for temporary failures and RefusedError for permanent ones.

    Optuna would try both again, blindly: a row that was committed just before the connection broke would come twice.
    """
    from sqlalchemy import event
    from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

    def translated(context: Any) -> Exception | None:
        if not isinstance(context.sqlalchemy_exception, InterfaceError | InternalError | OperationalError):
            return None
        return AwayError() if is_temporary(context.original_exception) else RefusedError()

    event.listen(engine, "handle_error", translated)


def is_temporary(error: BaseException) -> bool:
    """Return whether a driver's error says that the database is away, or busy, for now."""
    if type(error).__module__.startswith("sqlite3"):
        return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    state = getattr(error, "sqlstate", None)
    if state:
        return bool(state.startswith(_PASSING))
    # no connection, then: mostly because no server answers
    return type(error).__name__ in ("OperationalError", "InterfaceError") and not _TURNED_AWAY.search(str(error))


def has_answered(address: StorageAddress) -> bool:
    """Return whether the database has answered this process before."""
    return address.storage in _ANSWERED


def with_retries(operation: Callable[[int], Result], address: StorageAddress) -> Result:
    """Call `operation`, with the number of the try from 0, again while the database is away, and return its result.

    A database that never answered this process gets one try: its address is wrong more often than it restarts.
    """
    pause, deadline = _PAUSES_S[0], time.monotonic() + PATIENCE_S
    for attempt in range(2**31):
        try:
            result = operation(attempt)
        except Exception as error:
            away = isinstance(error, AwayError) or is_temporary(root_of(error))
            if not away or not has_answered(address) or time.monotonic() + pause > deadline:
                raise
            if attempt == 0:
                reason = address.redacted(str(root_of(error))).strip().splitlines()[:1]
                logger.warning("%s is away (%s): trying again for %.0f s", address, *reason or [""], PATIENCE_S)
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES_S[1])
        else:
            if attempt:
                logger.warning("%s is back", address)
            _ANSWERED.add(address.storage)
            return result
    raise AssertionError("the deadline comes first")
