"""Address of a storage, without passwords for messages and records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from searchkit.errors import SearchkitError, StoreError

ENVIRONMENT: Final = "SEARCHKIT_STORAGE"  # holds a URL with its password, which does not belong on a command line

_PASSWORD: Final = re.compile(r"(?<=://)([^:/@]*):(.+)@")
_PARAMETER: Final = re.compile(r"([?&])([^=&?]*(?:pass|pwd|secret|token)[^=&]*)=([^&]+)", re.IGNORECASE)
_DRIVERS: Final = {"postgres": "postgresql"}  # database, as URLs begin -> the extra of searchkit with its driver


class StorageAddress:
    """Address of a storage; messages show it without passwords."""

    def __init__(self, storage: str) -> None:
        self.storage = storage
        self.is_url = "://" in storage
        self._secrets = _secrets(storage) if self.is_url else []

    def __str__(self) -> str:
        return self.redacted(self.storage)

    @property
    def has_secret(self) -> bool:
        return bool(self._secrets)

    @property
    def kept(self) -> str:
        """Address as records keep it: without passwords, the same from any folder; StoreError if it is unclear."""
        if not self.is_url:
            return _absolute(self.storage)
        if self.storage.count("@") > 1:
            raise StoreError(f"{self} has more than one @: write those of the user or the password as %40")
        url = _PARAMETER.sub(r"\1", _PASSWORD.sub(r"\1@", self.storage))
        url = re.sub(r"(?<=[?&])&+|[?&]+$", "", url)
        return re.sub(r"^(sqlite(?:\+\w+)?:///)(?!/|:|file:)(.+)", lambda match: match[1] + _absolute(match[2]), url)

    def redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def one_line_errors(self, what: str) -> Iterator[None]:
        """Convert errors inside to a StoreError of one line; a URL's error is not chained: it may show a password."""
        try:
            yield
        except SearchkitError:
            raise
        except Exception as error:
            root = root_of(error)
            reason = self.redacted(str(root)).strip().splitlines() or [""]
            hint = f": {self._driver}" if isinstance(root, ImportError) else ""
            message = f"{what} {self}: {type(root).__name__}: {reason[0]}{hint}"
            raise StoreError(message) from (None if self.is_url else error)

    @property
    def _driver(self) -> str:
        """Instruction to install the driver of this database."""
        extra = next((name for start, name in _DRIVERS.items() if self.storage.startswith(start)), None)
        return f"pip install 'searchkit[{extra}]'" if extra else "install the driver of this database"


def with_password(kept: str) -> str:
    """Restore the URL that was written as `kept`, with its password where the environment holds that."""
    given = os.environ.get(ENVIRONMENT, "")
    return given if given and StorageAddress(given).kept == kept else kept


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _secrets(url: str) -> list[str]:
    """Passwords in a URL, before the @ or in a query, as written and unquoted; the longest first."""
    passwords = [match[2] for match in _PASSWORD.finditer(url)] + [match[3] for match in _PARAMETER.finditer(url)]
    return sorted({*passwords, *map(unquote, passwords)}, key=len, reverse=True)


def root_of(error: BaseException) -> BaseException:
    """Root cause of an error, which Optuna and SQLAlchemy wrap."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
