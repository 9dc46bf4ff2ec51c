"""Number format and threads of a run: one that is asked for by option is not mixed with values of another."""

from __future__ import annotations

import logging
from typing import Any, Final

from searchkit.errors import NothingStoredError, StudyError
from searchkit.records import Scalar
from searchkit.runs.config import HERE
from searchkit.runs.session import Session

log = logging.getLogger("searchkit.runs.folder")  # the logger whose warnings are shown

NAMES: Final = ("dtype", "threads")  # of options, of Conditions, and in a trial's environment


def check_numerics(session: Session) -> None:
    """Raise StudyError where the run has values of another number format, or of other threads than are asked for.

    What `auto` chooses is the device's own: a run that is begun and goes on with it may hold values of both, which a
    warning says, and the environment of each. Trials are read only where something has changed.
    """
    before, now = _before(session), numerics(session)
    changed = [name for name in NAMES if before.get("numerics", {}).get(name) != now[name]]
    stored = _stored(session) if changed and before else []
    for name in changed:
        had = sorted({str(values[name]) for values in stored if name in values})
        if not had or had == [str(now[name])]:
            continue
        asked, default = getattr(session.conditions, name) != getattr(HERE, name), getattr(HERE, name)
        begun_with = f"--{name}" in before.get("options", [])
        text = f"{session.folder.path} has values of {name} {' and '.join(had)}"
        if asked or (begun_with and name == "dtype"):
            this = f"--{name} {getattr(session.conditions, name)}" + ("" if asked else f" (here {now[name]})")
            raise StudyError(
                f"{text}, and {this} would mix others with them: go on with --{name} "
                f"{had[0] if len(had) == 1 else default}, or begin a run of its own under another name or --runs folder"
            )
        if begun_with or name == "dtype":
            log.warning("%s, and goes on with %s, which is the choice of --%s %s here", text, now[name], name, default)


def numerics(session: Session) -> dict[str, Scalar | None]:
    """Number format and threads of this session's values; None where another machine chooses."""
    conditions, placement = session.conditions, session.placement
    elsewhere = conditions.ray_address is not None and conditions.dtype == HERE.dtype
    return {"dtype": None if elsewhere else placement.dtype_name, "threads": placement.threads or None}


def options(session: Session) -> list[str]:
    """Words of options that are not the defaults; number format and threads also as earlier calls gave them."""
    words, before = session.conditions.words(), _before(session)
    for name, value in numerics(session).items():
        earlier, option = before.get("options", []), f"--{name}"
        if option in earlier[:-1] and option not in words and before.get("numerics", {}).get(name) == value:
            words += [option, earlier[earlier.index(option) + 1]]
    return words


def _before(session: Session) -> dict[str, Any]:
    return session.folder.read() if session.folder.study.exists() else {}


def _stored(session: Session) -> list[dict[str, Scalar]]:
    """Environments of the run's trials."""
    found: list[dict[str, Scalar]] = []
    for split in ("search", "report"):
        try:
            found += [dict(trial.environment) for trial in session.stores.open(split, create=False).trials()]
        except NothingStoredError:
            continue
    return found
