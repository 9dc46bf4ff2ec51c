"""Identity of the user's own code: a hash of its source, so that an edited objective or recipe is a different one."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from searchkit._internal.source import file_of, global_names, imported, parsed, source_of, targets, tree_of, unparsed

OWN: Final = ("searchkit", "objectives")  # packages that a version number identifies
_SCALARS: Final = (type(None), bool, int, float, complex, str, bytes)
_GENERATED: Final = ("_abc_impl", "__annotate__", "__annotate_func__")  # entries of a class that Python makes
_DESCRIPTORS: Final = ("member_descriptor", "getset_descriptor")


def code_identity(*things: Any) -> str | None:
    """16 hex digits of the user's own code in `things` (objectives, recipes, tasks, ...); None where there is none.

    The user's own is what is in neither `searchkit` nor `objectives`. Functions and classes count by their source
    without comments and docstrings, their defaults and closures, and the module-level names that they use, constants
    included; modules beside them by their whole source, with the local modules that these import. A study file does
    not count as a whole: its function `study` may change. Code without source counts by its bytecode.
    """
    walk = _Walk()
    for thing in things:
        walk.own(thing, direct=True)
    return digest(walk.texts) if walk.texts else None


def with_code(description: Mapping[str, Any], *things: Any) -> dict[str, Any]:
    """The description (JSON) of `things`, with the identity of the user's code in them, if any, under `code`."""
    code = code_identity(*things)
    return {**description, **({"code": code} if code else {})}


class _Walk:
    """Walk over user code: texts in order of discovery, the same for the same code in any process."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._seen: dict[int, Any] = {}  # keeps what was visited alive, so that nothing else gets its id
        self._files: set[str] = set()  # modules that are in as a whole
        self._plug_ins: set[str] = set()  # top-level packages that are installed and hold some of the things
        self._folder = ""  # of the module at hand: paths in it are the same code elsewhere

    def own(self, value: Any, direct: bool = False) -> None:
        """Follow an object of searchkit to user code; its settings are part of descriptions already."""
        if isinstance(value, _SCALARS) or id(value) in self._seen:
            return
        if direct and (plug_in := _installed(value)):
            self._plug_ins.add(plug_in)
        if self._is_users(value):
            self.users(value)
            return
        self._seen[id(value)] = value
        for part in _parts(value):
            self.own(part, direct=isinstance(part, FunctionType))

    def users(self, value: Any) -> None:
        """Add a value that user code reads: everything counts."""
        if isinstance(value, _SCALARS):
            self.texts.append(repr(value).replace(self._folder, "") if self._folder else repr(value))
        elif id(value) in self._seen:
            self.texts.append("again")
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            self._container(value)
        else:
            self._seen[id(value)] = value
            self._other(value)

    def _container(self, value: Any) -> None:
        self._seen[id(value)] = value  # it may hold itself
        self.texts.append(f"{type(value).__name__} of {len(value)}")
        if isinstance(value, set | frozenset):
            value = sorted(value, key=lambda item: repr(item) if isinstance(item, _SCALARS) else type(item).__name__)
        self._each(chain.from_iterable(value.items()) if isinstance(value, Mapping) else value)
        self._seen.pop(id(value), None)

    def _other(self, value: Any) -> None:
        if isinstance(value, FunctionType | type) and not self._is_users(value):
            self.texts.append(f"{value.__module__}.{value.__qualname__}")
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, ModuleType):
            self._module(value.__name__, file_of(value.__name__))
        elif isinstance(value, partial | MethodType | property | staticmethod | classmethod):
            self._each(_parts(value))
        elif isinstance(wrapped := getattr(value, "__wrapped__", getattr(value, "func", None)), FunctionType):
            self.users(wrapped)  # functools.cache, functools.cached_property
        elif isinstance(value, PurePath):
            self.users(str(value))
        else:
            self._instance(value)

    def _instance(self, value: Any) -> None:
        """Add type and state: of user code and searchkit in full, arrays and weights, plain attributes of others."""
        self.users(type(value))
        if callable(bytes_of := getattr(value, "tobytes", None)):
            self.texts.append(f"{getattr(value, 'dtype', '')} {getattr(value, 'shape', '')} {_hashed(bytes_of())}")
        elif callable(state := getattr(value, "state_dict", None)):
            self.users(dict(state()))
        elif callable(getattr(value, "detach", None)):
            self.texts.append(_hashed(repr(value.detach().tolist()).encode()))
        if _top(type(value).__module__) in OWN and callable(describe := getattr(value, "describe", None)):
            self.texts.append(json.dumps(describe(), sort_keys=True, default=repr))
            self._each(part for part in _parts(value) if self._is_users(part))
            return
        everything = self._is_users(value) or _top(type(value).__module__) in OWN
        for name, held in sorted(_state(value).items()):
            if isinstance(held, _SCALARS) or (everything and not callable(getattr(value, "state_dict", None))):
                self.texts.append(name)
                self.users(held)

    def _function(self, function: FunctionType) -> None:
        before, known = self._folder, function.__globals__
        self._folder = os.path.dirname(str(known.get("__file__") or "")) + os.sep if known.get("__file__") else ""
        source = source_of(function.__code__)
        self.texts.append(source)
        self._each((function.__defaults__, function.__kwdefaults__, *_cells(function)))
        for name in dict.fromkeys(global_names(function.__code__)):
            if name in known and not name.startswith("__"):
                self._name(name, known[name], str(known.get("__file__") or ""))
        if (tree := parsed(source)) is not None:
            self._imports(tree, str(known.get("__package__") or ""))
        self._folder = before

    def _name(self, name: str, value: Any, file: str) -> None:
        """Add a module-level name: its value, and the statements that bind it where the value is not enough."""
        self.texts.append(name)
        if not isinstance(value, (*_SCALARS, FunctionType, type, ModuleType)) and (tree := tree_of(file)):
            self.texts += [unparsed(node) for node in tree.body if name in targets(node)]
        self.users(value)

    def _class(self, cls: type) -> None:
        self.texts.append(f"class {cls.__qualname__.rpartition('.')[2]}")
        self._each(cls.__bases__)
        for name, value in vars(cls).items():
            special = name.startswith("__") and name.endswith("__")
            if special and not (isinstance(value, FunctionType) and self._is_users(value) and _has_file(value)):
                continue
            if name not in _GENERATED and type(value).__name__ not in _DESCRIPTORS:
                self.texts.append(name)
                self.users(value)

    def _module(self, name: str, file: str | None) -> None:
        """Add a module: in full with its local imports where it is beside the study, else by name."""
        tree = tree_of(file) if file and self._is_local(file, name) else None
        if tree is None or file is None:
            self.texts.append(f"module {name}")
            return
        self._files.add(file)
        self.texts.append(unparsed(tree))
        self._imports(tree, name if Path(file).name == "__init__.py" else name.rpartition(".")[0])

    def _imports(self, tree: ast.AST, package: str) -> None:
        """Local modules that are imported anywhere in the code, each once."""
        for name in imported(tree, package):
            file = file_of(name)
            if file and file not in self._files and self._is_local(file, name):
                self._module(name, file)

    def _is_users(self, value: Any) -> bool:
        """Return whether a function, a class, or the class of an object is the user's own code, or a plug-in's."""
        kind = value if isinstance(value, FunctionType | type) else type(value)
        name = str(kind.__module__ or "")
        if isinstance(kind, FunctionType):
            file = kind.__globals__.get("__file__") or kind.__code__.co_filename
            return _top(name) not in OWN and self._is_local(str(file), name)
        module = sys.modules.get(name)
        if _top(name) in OWN or (module is not None and _is_built_in(module)):
            return False
        return self._is_local(str(getattr(module, "__file__", None) or ""), name)

    def _is_local(self, file: str, name: str) -> bool:
        return _top(name) not in OWN and (_top(name) in self._plug_ins or not _is_of_library(file))

    def _each(self, values: Iterable[Any]) -> None:
        for value in values:
            self.users(value)


def _parts(value: Any) -> Iterator[Any]:
    """The objects that an object holds and may call."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, property):
        yield from (value.fget, value.fset)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, FunctionType):
        yield from (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *_cells(value))
    elif not isinstance(value, type | ModuleType) and _top(type(value).__module__) in OWN:
        yield from _state(value).values()


def _state(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, else the attributes of an object."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return dict(getattr(value, "__dict__", {}))


def _has_file(function: FunctionType) -> bool:
    """Return whether a file, or a cell of a notebook, may hold its source: not for what `dataclass` makes."""
    return function.__code__.co_filename != "<string>"


def _cells(function: FunctionType) -> tuple[Any, ...]:
    """The values that a closure holds; an empty cell, of a name that is not bound yet, holds none."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:
            continue
    return tuple(cells)


def _top(name: str | None) -> str:
    return str(name or "").partition(".")[0]


def _installed(value: Any) -> str | None:
    """The package of a plug-in that is installed beside other libraries."""
    kind = value if isinstance(value, FunctionType | type) else type(value)
    file = str(getattr(sys.modules.get(kind.__module__ or ""), "__file__", None) or "")
    of_site = any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
    return _top(kind.__module__) if of_site and _top(kind.__module__) not in OWN else None


def _is_of_library(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package; False for none, such as a notebook's."""
    if not file or file.startswith("<frozen"):
        return bool(file)
    installed = any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
    return installed or any(Path(file).is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))


def _is_built_in(module: ModuleType) -> bool:
    origin = getattr(module.__spec__, "origin", "")
    return module.__name__ in sys.builtin_module_names or origin in ("built-in", "frozen")


def _hashed(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest(description: Any) -> str:
    """16 hex digits of a JSON description."""
    return hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=8).hexdigest()
