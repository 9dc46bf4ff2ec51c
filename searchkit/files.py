"""Files that are either the old or the new ones, whole, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path

from searchkit.errors import StoreError


def replace_whole(path: Path, content: bytes) -> None:
    """Put `content` on disk under a temporary name beside `path`, then rename it; StoreError where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process of the same number that was killed
        with partial.open("xb") as file:  # a new file, never one that a link of this name leads to
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
