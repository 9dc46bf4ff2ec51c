"""Where trials are stored, as messages may show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from searchkit.errors import SearchkitError, StoreError


class Place:
    """The place of a storage, as messages may show it: without passwords."""

    def __init__(self, storage: str) -> None:
        self.storage = storage
        self.is_url = "://" in storage
        self._secrets = _secrets(storage) if self.is_url else []

    def __str__(self) -> str:
        return self.hide(self.storage)

    def hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def stop(self, what: str) -> Iterator[None]:
        """Whatever goes wrong inside becomes a StoreError of one line. A URL's error is not chained: it may show it."""
        try:
            yield
        except SearchkitError:
            raise
        except Exception as error:
            root = _root(error)
            reason = self.hide(str(root)).strip().splitlines() or [""]
            hint = "; install the driver of this database" if isinstance(root, ImportError) else ""
            message = f"{what} {self}: {type(root).__name__}: {reason[0]}{hint}"
            raise StoreError(message) from (None if self.is_url else error)


def _secrets(url: str) -> list[str]:
    """The passwords in a URL, before the @ or in a query, as written and unquoted; the longest first."""
    found = re.findall(r"://[^:/@]*:(.+)@", url)
    found += re.findall(r"[?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=([^&]+)", url, flags=re.IGNORECASE)
    return sorted({*found, *map(unquote, found)}, key=len, reverse=True)


def _root(error: BaseException) -> BaseException:
    """What was raised first: Optuna and SQLAlchemy wrap the error that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
