"""Runs at a URL (s3://, gs://, file://, ...): a local folder is mirrored there every minute, and fetched whole.

Beside the files of a run stands a list of them, written after them: what it does not name was not complete.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from searchkit.errors import QUOTED, SearchkitError, StoreError, StudyError, one_line
from searchkit.storage.address import StorageAddress

log = logging.getLogger(__name__)

PUSH_EVERY_S: Final = 60.0
BEAT_EVERY_S: Final = 10.0
DEAD_AFTER_S: Final = 30.0  # a lease that has not changed for so long is of a process that was lost


class Remote:
    """Files below a URL, by their names relative to it; failures are a StoreError of one line."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._root = _filesystem(url)

    def read(self, name: str) -> bytes | None:
        """Read the content of a file; None where there is none."""
        try:
            with self._one_line_errors("read", name), self._files.open(f"{self._root}/{name}", "rb") as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write the file whole: under another name first, which is moved."""
        path = f"{self._root}/{name}"
        partial = f"{path}.partial"
        with self._one_line_errors("write", name, FileNotFoundError):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._files.open(partial, "wb") as file:
                write(file)
            self._files.mv(partial, path)

    def download(self, name: str, to: Path) -> None:
        """Download a file; FileNotFoundError where there is none."""
        with self._one_line_errors("read", name), self._files.open(f"{self._root}/{name}", "rb") as source:
            to.parent.mkdir(parents=True, exist_ok=True)
            with to.open("wb") as file:
                shutil.copyfileobj(source, file)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._one_line_errors("remove", name):
            self._files.rm_file(f"{self._root}/{name}")

    @contextmanager
    def _one_line_errors(self, what: str, name: str, *also: type[Exception]) -> Iterator[None]:
        """Convert errors to StoreError; FileNotFoundError passes, unless it is among those to convert."""
        try:
            yield
        except Exception as error:  # every kind of file system raises its own
            if isinstance(error, (FileNotFoundError, SearchkitError)) and not isinstance(error, also):
                raise
            reason = one_line(error, QUOTED)
            raise StoreError(f"cannot {what} {self.url}/{name}: {type(error).__name__}: {reason}") from error


@dataclass(frozen=True)
class Part:
    """Part of a folder: the files whose names begin with `prefix`, and the name of their list."""

    prefix: str
    listing: str
    needed: bool = True  # False: it can be made again

    @classmethod
    def run(cls, study: str) -> Part:
        return cls(f"{study}/", f"{study}/mirror.json")

    @classmethod
    def supernet(cls, fingerprint: str) -> Part:
        """Part of a supernet: the trained model, its unfinished training, and its caches, shared by studies."""
        return cls(f"supernets/{fingerprint}", f"supernets/{fingerprint}.mirror.json", needed=False)

    def names(self, remote: Remote) -> list[str]:
        """Names of the files that are there; none where there is no list yet."""
        content = remote.read(self.listing)
        try:
            names = [] if content is None else list(json.loads(content)["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{remote.url}/{self.listing} is damaged: {error}") from error
        for name in names:
            if not isinstance(name, str) or not name.startswith(self.prefix) or ".." in PurePosixPath(name).parts:
                raise StoreError(f"{remote.url}/{self.listing} names a file that is not of this run: {name!r}")
        return names

    def local(self, folder: Path) -> dict[str, tuple[int, int]]:
        """Files below a folder, without locks and files being written: name -> (bytes, time of change)."""
        sizes = {}
        for path, _, files in os.walk(folder / self.prefix.partition("/")[0]):
            for file in (Path(path, name) for name in files if not _passing(name)):
                name = file.relative_to(folder).as_posix()
                if not name.startswith(self.prefix) or name == self.listing:
                    continue
                try:
                    state = file.stat()
                except FileNotFoundError:  # training removes old checkpoints
                    continue
                sizes[name] = (state.st_size, state.st_mtime_ns)
        return sizes


class Mirror:
    """Mirror of parts of a local folder of runs at a URL."""

    def __init__(self, remote: Remote, local: Path, parts: tuple[Part, ...]) -> None:
        self._remote, self._local, self._parts = remote, local, parts
        self._there: dict[str, tuple[int, int]] = {}  # files pushed or pulled: name -> (bytes, time of change)
        self._listed: dict[Part, list[str]] = {}

    def pull(self) -> None:
        """Download all files."""
        for part in self._parts:
            try:
                self._listed[part] = copied(self._remote, part, self._local)
            except StoreError as error:
                if part.needed:
                    raise
                log.warning("%s; it is made again", error)
                shutil.rmtree(self._local / PurePosixPath(part.prefix).parts[0], ignore_errors=True)
            listed = set(self._listed.get(part, []))
            self._there |= {name: state for name, state in part.local(self._local).items() if name in listed}

    def push(self) -> None:
        """Upload changed files, then the list, and only then remove files that are gone."""
        for part in self._parts:
            now = part.local(self._local)
            names = [name for name, state in now.items() if self._there.get(name) == state or self._upload(name, state)]
            if names == self._listed.get(part, []):
                continue
            listing = json.dumps({"files": names}, indent=1).encode()
            self._remote.write(part.listing, lambda file, listing=listing: file.write(listing))  # type: ignore[misc]
            for name in set(self._listed.get(part, [])) - set(names):
                self._remote.remove(name)
                self._there.pop(name, None)
            self._listed[part] = names

    def _upload(self, name: str, state: tuple[int, int]) -> bool:
        """Upload a file; False if it is gone meanwhile."""
        try:
            source = (self._local / name).open("rb")
        except FileNotFoundError:
            return False
        with source:
            self._remote.write(name, lambda file: shutil.copyfileobj(source, file))
        self._there[name] = state
        return True


class Lease:
    """Lease at the URL, renewed by the process that works there, so that no second one does."""

    def __init__(self, remote: Remote, study: str) -> None:
        self._remote, self._study, self._name = remote, study, f"{study}/mirror.lease"
        self._owner, self._beats = uuid.uuid4().hex, 0

    def take(self) -> None:
        """Take the lease; StoreError if another process is alive there."""
        before = self._remote.read(self._name)
        if before is not None:
            log.warning("another process wrote to %s; waiting to see whether it still does", self._remote.url)
        until = time.monotonic() + DEAD_AFTER_S
        while before is not None and time.monotonic() < until:
            time.sleep(min(1.0, DEAD_AFTER_S / 10))
            now = self._remote.read(self._name)
            if now is not None and now != before:
                raise StoreError(f"{self._remote.url}/{self._study}: another process is running this study there")
            before = now
        self._write()

    def renewed(self) -> bool:
        """Renew the lease; False if another process has taken over, since this one was away for long."""
        now = self._remote.read(self._name)
        if now is not None and self._owner.encode() not in now:
            return False
        self._write()
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease, and release it at the end."""
        self.take()
        try:
            yield
        finally:
            if self.renewed():
                self._remote.remove(self._name)

    def _write(self) -> None:
        self._beats += 1
        content = json.dumps({"owner": self._owner, "beat": self._beats}).encode()
        self._remote.write(self._name, lambda file: file.write(content))


@contextmanager
def mirrored(url: str, study: str, fingerprint: str) -> Iterator[Path]:
    """Fetch a study and its supernet from `url` into a local folder of runs, and mirror it there.

    What is done goes there every minute and at the end, whatever ends it; SIGTERM ends it as Ctrl-C does.
    """
    remote = Remote(url)
    lease, local = Lease(remote, study), Path(tempfile.mkdtemp(prefix="searchkit-"))
    mirror = Mirror(remote, local, (Part.supernet(fingerprint), Part.run(study)))
    lost = threading.Event()

    def beat() -> None:
        if not lease.renewed():
            lost.set()
            os.kill(os.getpid(), signal.SIGINT)  # wakes it, whatever it waits for

    def push() -> None:
        if not lost.is_set():
            mirror.push()

    with lease.held():
        mirror.pull()  # where this fails nothing is pushed
        try:
            with _sigterm_as_ctrl_c(), _every(BEAT_EVERY_S, beat), _every(PUSH_EVERY_S, push):
                yield local
        finally:
            if lost.is_set():
                raise StoreError(f"{url}/{study}: another process has taken over this study, and this one stops")
            try:
                mirror.push()
            except StoreError as error:
                raise StoreError(f"{error}; what is done since is kept in {local}") from error
    shutil.rmtree(local)


def copied(remote: Remote, part: Part, into: Path) -> list[str]:
    """Copy a part whole and return its names; where a mirror replaces files meanwhile, its list is read again.

    StoreError if a file is listed and stays away.
    """
    for attempt in range(3):
        time.sleep(attempt)
        names = part.names(remote)
        try:
            for name in names:
                remote.download(name, into / name)
        except FileNotFoundError as error:
            missing = error
        else:
            return names
    raise StoreError(f"{remote.url}/{part.listing} names a file that is not there: {missing}")


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM, which a node sends before it goes, as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Call an action regularly in a thread; failures are logged and tried again the next time."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(seconds):
            try:
                do()
            except StoreError as error:
                log.warning("%s", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def refuse_credentials(what: str, text: str) -> None:
    """Raise StudyError if a URL or an argument holds a password: command lines and logs would show it."""
    address = StorageAddress(text)
    if str(address) != text:
        raise StudyError(f"{what}: {address} holds a password, which others would see; keep it where the job finds it")


def _passing(name: str) -> bool:
    return name.endswith((".lock", ".partial"))


def provider(url: str) -> str:
    """Name of the package that reaches a URL; StudyError for a kind that is unknown, or not installed here."""
    import fsspec

    protocol = url.partition("://")[0]
    refuse_credentials("--runs", url)
    if "::" in url or not url.partition("://")[2]:
        raise StudyError(f"--runs {url}: expected a folder or a URL such as s3://bucket/runs")
    try:
        return str(fsspec.get_filesystem_class(protocol).__module__.partition(".")[0])
    except ImportError as error:
        raise StudyError(f"--runs {url}: {error} (pip install {_package(str(error))})") from error
    except ValueError:
        raise StudyError(f"--runs {url}: {protocol}:// is no kind of place that fsspec knows") from None


def _package(message: str) -> str:
    """Package that fsspec's message 'Install s3fs to access S3' names."""
    words = message.replace('"', "").split()
    return next((after for word, after in pairwise(words) if word.lower() in ("install", "requires")), "it")


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec.core

    provider(url)
    try:
        files, root = fsspec.core.url_to_fs(url.rstrip("/"))
    except (ImportError, ValueError, OSError) as error:
        raise StudyError(f"--runs {url}: {one_line(error, QUOTED)}") from error
    return files, root


__all__ = ["Lease", "Mirror", "Part", "Remote", "copied", "mirrored", "provider", "refuse_credentials"]
