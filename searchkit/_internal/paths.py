"""Relative paths of data and models: looked for in the current folder, then beside the study file that names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

_FOLDERS: Final[ContextVar[tuple[Path, ...]]] = ContextVar("folders of relative paths", default=())


@contextmanager
def relative_to(*folders: Path) -> Iterator[None]:
    """Within it, `located` looks for relative paths in these folders, in this order."""
    token = _FOLDERS.set(folders)
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def located(path: str) -> str:
    """An absolute path where a relative one exists in another folder than the current one; else the text as it is."""
    if not path or path.startswith("~") or Path(path).is_absolute():
        return path
    for folder in _FOLDERS.get():
        if (folder / path).exists():
            return path if folder == Path() else str(folder / path)
    return path


def looked_in(path: Path) -> str:
    """The end of a message on a path that does not exist: where a relative one was looked for."""
    return "" if path.is_absolute() else f" (a relative path, looked for in {Path.cwd()} and beside the study file)"
