"""Disks that are full or read-only: a small tmpfs where this process may mount one, a limit on file sizes elsewhere."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def _mount(*arguments: str) -> bool:
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Disk:
    folder: Path
    mounted: bool

    @contextlib.contextmanager
    def full(self, spare_bytes: int) -> Iterator[None]:
        """Inside, files may take only that much more."""
        if self.mounted:
            status = os.statvfs(self.folder)
            filler, free = self.folder / "filler", status.f_bavail * status.f_frsize
            filler.write_bytes(bytes(max(0, free - spare_bytes)))
            try:
                yield
            finally:
                filler.unlink()
            return
        largest = max((path.stat().st_size for path in self.folder.rglob("*") if path.is_file()), default=0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + spare_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Inside, nothing in the folder can be changed; PermissionError where that cannot be had."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True, capture_output=True)
        elif os.geteuid() != 0:
            self._permit(0o500, 0o400)
        else:
            raise PermissionError("root may write to read-only folders, and may not mount a read-only one here")
        try:
            yield
        finally:
            if self.mounted:
                subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=True, capture_output=True)
            else:
                self._permit(0o700, 0o600)

    def _permit(self, folders: int, files: int) -> None:
        for path in [*self.folder.rglob("*"), self.folder]:
            path.chmod(folders if path.is_dir() else files)


@contextlib.contextmanager
def disk(folder: Path, mib: int = 2) -> Iterator[Disk]:
    """A disk in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _mount("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder))
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
