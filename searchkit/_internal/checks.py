"""Checks of settings against their annotations, and names of a package that load on first use."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from searchkit.errors import StudyError, unknown

LARGEST: Final = 2**53  # largest integer that JSON and a float hold exactly


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_finite(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


PLAIN: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "int": ("a whole number", _is_whole),
    "float": ("a finite number", _is_finite),
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "None": ("None", lambda value: value is None),
    "tuple[int, int]": (
        "two whole numbers",
        lambda value: isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_whole, value)),
    ),
}


def check_fields(record: Any) -> None:
    """Raise StudyError for the first field of a dataclass that is not what its annotation (a string) says.

    Plain types and classes that the modules of the record and of its bases know are checked; other annotations
    (protocols, literals, sequences) are left to the record. A whole number is a number; True and NaN are none.
    """
    bases = [base for base in reversed(type(record).__mro__) if base is not object]
    known = {name: value for base in bases for name, value in vars(sys.modules[base.__module__]).items()}
    for field in dataclasses.fields(record):
        check(f"{type(record).__name__}: {field.name}", str(field.type), getattr(record, field.name), known)


def check(what: str, annotation: str, value: Any, known: Mapping[str, Any] | None = None) -> None:
    """Raise StudyError unless `value` is one of the types of an annotation such as "int | None"."""
    kinds = [_kind(name, known or {}) for name in annotation.split(" | ")]
    checked = [kind for kind in kinds if kind is not None]
    if len(checked) == len(kinds) and not any(fits(value) for _, fits in checked):
        raise StudyError(f"{what} must be {' or '.join(type_name for type_name, _ in checked)}, got {value!r}")


def needs(*packages: str, extra: str, what: str) -> None:
    """Raise StudyError if one of these packages, of an optional dependency of this name, is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise StudyError(f"{what} need {', '.join(missing)}, not installed here: pip install 'searchkit[{extra}]'")


def check_count(what: str, value: Any, most: int = LARGEST, least: int = 1) -> None:
    """Raise StudyError unless `value` is a whole number from `least` to `most`."""
    check(what, "int", value)
    if not least <= value <= most:
        limit = f"at least {least}" if value < least else f"at most {most}"
        raise StudyError(f"{what} must be {limit}, got {value!r}")


def _kind(name: str, known: Mapping[str, Any]) -> tuple[str, Callable[[Any], bool]] | None:
    """Display name and predicate of a type; None for types that are not checked here."""
    cls = known.get(name)
    if name in PLAIN or not isinstance(cls, type) or getattr(cls, "_is_protocol", False):
        return PLAIN.get(name)
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}", lambda value: isinstance(value, cls)


def lazy_names(package: str, home: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package whose names load on first use; home: name -> its module."""

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}: {unknown('name', name, home)}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return load, lambda: sorted({*vars(sys.modules[package]), *home})


# Values of stored JSON: TypeError or ValueError, which readers of records turn into a line that names the file.


def json_of(value: Any, kind: type) -> Any:
    """Return the value if it is of one of these types; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{'an' if kind is int else 'a'} {kind.__name__} is needed, got {value!r}")
    return value


def json_number(value: Any) -> Any:
    """Return an int or a float unchanged."""
    try:
        float(json_of(value, int if isinstance(value, int) else float))
    except OverflowError as error:
        raise ValueError(f"a number is needed that a float can hold, got {value!r}") from error
    return value


def json_numbers(data: Any) -> dict[str, Any]:
    return {name: json_number(value) for name, value in json_of(data, dict).items()}


def json_number_or_none(value: Any) -> Any:
    return None if value is None else json_number(value)


def json_count(value: Any) -> int:
    """Return the value if it is a count."""
    if json_of(value, int) < 0:
        raise ValueError(f"a count is 0 or more, got {value!r}")
    return int(value)
