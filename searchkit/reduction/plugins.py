"""Plug-ins: scorers, predictors, encoder families and heads by name, those of the user and of installed packages too.

A study file registers its own when it is loaded; an installed package names its own as entry points of the group
`searchkit.scorers`, `searchkit.predictors`, `searchkit.families` or `searchkit.heads`.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from searchkit._internal.code import with_code
from searchkit.errors import QUOTED, StudyError, one_line, unknown

Thing = TypeVar("Thing")
PlugIn = tuple[str, str, Any]  # kind, name, thing

HOMES: Final = {
    "scorer": "searchkit.reduction.scorers",
    "predictor": "searchkit.reduction.scorers",
    "family": "searchkit.reduction.families",
    "head": "searchkit.reduction.heads",
}
_REGISTRIES: Final[dict[str, Registry[Any]]] = {}


class Registry(Mapping[str, Thing]):
    """Things of one kind by name: searchkit's own, then registered ones, then those of installed packages.

    kind: of `HOMES`; own: searchkit's; group: of the entry points; needs: attributes that a thing must have
    """

    def __init__(self, kind: str, own: Mapping[str, Thing], group: str, needs: tuple[str, ...]) -> None:
        self.kind, self.own, self._group, self._needs = kind, dict(own), group, needs
        self.registered: dict[str, Thing] = {}
        _REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> Thing:
        for known in (self.own, self.registered):
            if name in known:
                return known[name]
        if name not in self._installed:
            raise KeyError(name)
        point, *others = self._installed[name]
        if others:
            packages = sorted(str(each.dist.name if each.dist else each.module) for each in (point, *others))
            raise StudyError(f"{self.kind} {name!r} is offered by {' and '.join(packages)}: uninstall one")
        try:
            return self._checked(name, point.load())
        except Exception as error:
            raise StudyError(f"{self.kind} {name!r} of an installed package: {one_line(error, QUOTED)}") from error

    def __iter__(self) -> Iterator[str]:
        return iter({**self.own, **self.registered, **self._installed})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.registered or name in self._installed

    def look_up(self, name: str) -> Thing:
        """The thing of this name; StudyError with the closest names first where there is none."""
        if name not in self:
            raise StudyError(unknown(self.kind, name, self))
        return self[name]

    def register(self, name: str, thing: Thing) -> None:
        """Take in a thing, or its new version where the code that made it runs again; StudyError if it cannot be."""
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise StudyError(f"the name of a {self.kind} is made of letters, digits, '_' and '-', got {name!r}")
        before = self.registered.get(name)
        if name in self.own or (before is not None and _origin(before) != _origin(thing)):
            whose = "searchkit" if name in self.own else ".".join(_origin(before))
            raise StudyError(f"there is a {self.kind} {name!r} already, of {whose}: choose another name")
        self.registered[name] = self._checked(name, thing)

    def _checked(self, name: str, thing: Thing) -> Thing:
        lacking = [needed for needed in self._needs if not hasattr(thing, needed)]
        if lacking:
            raise StudyError(f"the {self.kind} {name!r} lacks {', '.join(lacking)}: got {thing!r}")
        if self.kind == "head" and getattr(thing, "name", None) != name:
            raise StudyError(f"the head {name!r} calls itself {getattr(thing, 'name', None)!r}")
        return thing

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """Entry points of installed packages by name: one each, unless two packages offer the same name."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self._group):
            found.setdefault(point.name, []).append(point)
        return found


def _origin(thing: Any) -> tuple[str, str]:
    """Module and name of the code that a thing is: its class, itself where it is one, or a family's view."""
    code = getattr(thing, "view", thing)
    named = code if hasattr(code, "__qualname__") else type(code)
    return str(named.__module__), str(named.__qualname__)


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind; StudyError with the closest kinds first where there is none."""
    if kind not in HOMES:
        raise StudyError(unknown("kind of plug-in", kind, HOMES))
    importlib.import_module(HOMES[kind])
    return _REGISTRIES[kind]


def register(kind: str, name: str, thing: Any) -> None:
    """Make a part of your own known by name, here and on Ray workers: a scorer, predictor, family or head.

    kind: "scorer" (an object), "predictor" (the class of a trained scorer), "family" (of a transformers `model_type`)
    or "head"; everything else that a study takes (recipes, objectives, tasks, engines, dimensions) needs no name.
    Raises StudyError for unknown kinds, names that are taken, and things that lack a part. `docs/plug-ins.md` has one
    of each.

    >>> from searchkit import register
    >>> from searchkit.reduction.families.post_norm import ROBERTA
    >>> register("family", "camembert", ROBERTA)  # the same encoder under another model_type
    """
    registry(kind).register(name, thing)


def with_plug_ins(description: Mapping[str, Any], user: Any, *things: Any) -> dict[str, Any]:
    """The description (JSON) of a recipe, task or model that uses `things`, with the identity of the user's code.

    Settings of things that are none of searchkit's own stand under `plug_ins`.
    """
    own = {id(thing) for known in _REGISTRIES.values() for thing in known.own.values()}
    foreign = [_settings(thing) for thing in things if id(thing) not in own]
    return {**with_code(description, user, *things), **({"plug_ins": foreign} if foreign else {})}


def _settings(thing: Any) -> dict[str, Any]:
    fields = {} if isinstance(thing, type) else getattr(thing, "__dataclass_fields__", {})
    plain = {name: getattr(thing, name) for name in fields}
    settings = {name: value for name, value in plain.items() if isinstance(value, str | int | float | tuple | None)}
    as_stored: dict[str, Any] = json.loads(json.dumps({"code": _origin(thing)[1], **settings}, default=repr))
    return as_stored


def registered() -> tuple[PlugIn, ...]:
    """All that was registered in this process, for one that did not run the code that did."""
    return tuple(
        (kind, name, thing) for kind, known in sorted(_REGISTRIES.items()) for name, thing in known.registered.items()
    )


def take_over(plug_ins: tuple[PlugIn, ...]) -> None:
    """Register in this process what `registered` gave in another."""
    for kind, name, thing in plug_ins:
        registry(kind).registered[name] = thing
