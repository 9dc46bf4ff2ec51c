"""A PostgreSQL server of the tests' own: in a temporary folder, on loopback, behind a password, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

OWNER = "postgres"  # whom Debian's package makes; PostgreSQL refuses to run as root
DATABASES = itertools.count()


def programs() -> Path | None:
    """The folder of `postgres` and `initdb`; None where PostgreSQL is not installed."""
    found = shutil.which("postgres")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    places = [Path(found)] if found else installed[-1:]
    return places[0].resolve().parent if places else None


def missing() -> str:
    """Why there can be no server here; empty if there can."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return f"psycopg is not installed: {error}"
    return ""


@dataclass
class Server:
    folder: Path
    password: str = field(default_factory=lambda: f"s3cret-{secrets.token_hex(8)}")
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://searchkit:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        bin_, file = programs(), self.folder / "password"
        file.write_text(self.password)
        if self._owner:
            for path in (self.folder, file):
                shutil.chown(path, OWNER, OWNER)
        command = [f"{bin_}/initdb", "-D", "data", "-U", "searchkit", f"--pwfile={file}", "--auth=scram-sha-256"]
        more = ["--no-sync", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        subprocess.run([*command, *more], cwd=self.folder, check=True, capture_output=True, **self._owner)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, patience_s: float = 30) -> None:
        """Start the server and wait until it answers, also after a crash, when it first has to recover."""
        deadline = time.monotonic() + patience_s
        command = [f"{programs()}/postgres", "-D", "data", "-h", "127.0.0.1", "-p", str(self.port)]
        command += ["-k", str(self.folder), "-F", "-c", "shared_buffers=16MB", "-c", "max_connections=200"]
        while not self._answers():
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self._owner)
            if time.monotonic() > deadline:
                raise TimeoutError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: disconnect everybody and stop; SIGKILL: as in a power cut."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"test_{next(DATABASES)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return self.url(name)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _owner(self) -> dict[str, object]:
        return {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A running server; stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="searchkit-postgresql-") as folder:
        one = Server(Path(folder))
        try:
            one.initialise()
            one.start()
            yield one
        finally:
            one.stop(signal.SIGQUIT)  # at once: nothing in it is needed any more
