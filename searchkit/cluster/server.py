"""Job server of a Ray cluster: its address, the token that Ray sends to it, and proxies on the way.

The token is Ray's to find and to send; searchkit neither reads nor stores it.
"""

from __future__ import annotations

import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from searchkit.errors import QUOTED, StudyError, one_line
from searchkit.storage.remote import refuse_credentials

ANSWER_S: Final = 10.0


def check_address(address: str) -> str:
    """Check and complete the address; StudyError unless it is http(s)://HOST[:PORT] without credentials."""
    refuse_credentials("--address", address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise StudyError(f"--address {address}: {error}") from error
    if parts.username is not None:
        raise StudyError("--address: no user or password in it; Ray sends the cluster's token by itself")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or port == 0:
        raise StudyError(f"--address {address}: expected the job server's URL, such as http://127.0.0.1:8265")
    return address.rstrip("/")


@contextmanager
def server(address: str) -> Iterator[Any]:
    """Open Ray's client of the job server; its errors become a StudyError of one line."""
    with _without_proxy(check_address(address)), _client(address) as client:
        yield client


@contextmanager
def _client(address: str) -> Iterator[Any]:
    _check_reachable(address)
    _let_ray_send_its_token()
    try:
        import aiohttp  # noqa: F401
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise StudyError(
            f"clusters need Ray's job client ({error.name} is missing): pip install 'searchkit[cluster]'"
        ) from error
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with _address_as_given():
            client = JobSubmissionClient(address)
        yield client
    except AuthenticationError as error:
        raise StudyError(
            f"{address} refused the token, or got none: set RAY_AUTH_TOKEN_PATH to the file with the cluster's token, "
            "or put the token into ~/.ray/auth_token"
        ) from error
    except (RuntimeError, ValueError, OSError) as error:
        if "does not exist" in str(error) and "404" in str(error):
            raise StudyError(
                f"{address} knows no such job: the cluster is a new one; submit the study again"
            ) from error
        raise StudyError(f"the job server at {address}: {one_line(error, QUOTED)}") from error


def _check_reachable(address: str) -> None:
    """Check that the server answers; Ray's client would wait for ever."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_S):
            return
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # it is there and wants the token
            return
        raise StudyError(
            f"--address {address}: something else than Ray's job server answers ({error.code}){_proxy(address)}"
        ) from error
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise StudyError(
            f"no job server answers at {address} ({one_line(reason, QUOTED)}): is the cluster up, its dashboard port "
            f"forwarded?{_proxy(address)}"
        ) from error
    except Exception as error:  # http.client's own, for what is no HTTP
        raise StudyError(
            f"--address {address}: something else than Ray's job server answers{_proxy(address)}"
        ) from error


@contextmanager
def _without_proxy(address: str) -> Iterator[None]:
    """Connect to loopback and private networks directly, also where `http_proxy` is set: no proxy reaches them."""
    host = urlsplit(address).hostname or ""
    before = {name: os.environ[name] for name in ("no_proxy", "NO_PROXY") if name in os.environ}
    if _is_near(host):
        direct = ",".join(filter(None, (next(iter(before.values()), ""), host)))
        os.environ.update(no_proxy=direct, NO_PROXY=direct)
    try:
        yield
    finally:
        for name in ("no_proxy", "NO_PROXY"):
            os.environ.pop(name, None)
        os.environ.update(before)


def _is_near(host: str) -> bool:
    """Return whether all addresses of the host are loopback or of a private network."""
    try:
        addresses = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ip_address(address).is_private for address in addresses)


def _proxy(address: str) -> str:
    """Message suffix, where a proxy is between this machine and the job server."""
    parts = urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = urlsplit(proxies.get(parts.scheme) or proxies.get("all") or "")
    if not proxy.hostname or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f"; the way there is the proxy {proxy.hostname} of {parts.scheme}_proxy: add {parts.hostname} to no_proxy?"


def _let_ray_send_its_token() -> None:
    """Let Ray's client send its token, which is off by default; an unreadable file would abort the process."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(given or os.path.expanduser("~/.ray/auth_token"))
    readable = file.is_file() and os.access(file, os.R_OK) and file.stat().st_size > 0
    if os.environ.get("RAY_AUTH_TOKEN") or readable:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif given:
        raise StudyError(f"RAY_AUTH_TOKEN_PATH={given}: there is no token that can be read")


@contextmanager
def _address_as_given() -> Iterator[None]:
    """Remove the variables that Ray prefers to the given address."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
