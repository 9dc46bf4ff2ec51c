"""Identity of the user's own code: a hash of its source, so that an edited objective or recipe is a different one."""

from __future__ import annotations

import ast
import dataclasses
import dis
import hashlib
import json
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import chain
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

OWN: Final = ("searchkit", "objectives")  # packages that a version number identifies
_SCALARS: Final = (type(None), bool, int, float, complex, str, bytes)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
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
            self._module(value.__name__, _file_of(value.__name__))
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
        source = _source(function.__code__)
        self.texts.append(source)
        self._each((function.__defaults__, function.__kwdefaults__, *_cells(function)))
        for name in dict.fromkeys(_globals_of(function.__code__)):
            if name in known and not name.startswith("__"):
                self._name(name, known[name], str(known.get("__file__") or ""))
        if (tree := _parsed(source)) is not None:
            self._imports(tree, str(known.get("__package__") or ""))
        self._folder = before

    def _name(self, name: str, value: Any, file: str) -> None:
        """Add a module-level name: its value, and the statements that bind it where the value is not enough."""
        self.texts.append(name)
        if not isinstance(value, (*_SCALARS, FunctionType, type, ModuleType)) and (tree := _tree(file)):
            self.texts += [_unparsed(node) for node in tree.body if name in _targets(node)]
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
        tree = _tree(file) if file and self._is_local(file, name) else None
        if tree is None or file is None:
            self.texts.append(f"module {name}")
            return
        self._files.add(file)
        self.texts.append(_unparsed(tree))
        self._imports(tree, name if Path(file).name == "__init__.py" else name.rpartition(".")[0])

    def _imports(self, tree: ast.AST, package: str) -> None:
        """Local modules that are imported anywhere in the code, each once."""
        for name in _imported(tree, package):
            file = _file_of(name)
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


def _globals_of(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


@cache
def _source(code: CodeType) -> str:
    """The source of a function as it was when this was first asked; bytecode where a file is missing or was edited."""
    tree = _tree(code.co_filename)
    if tree is None or code not in _codes(compile(tree, code.co_filename, "exec", dont_inherit=True)):
        return repr((code.co_code.hex(), code.co_names, [_constant(item) for item in code.co_consts]))
    nodes = [
        node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and _first_line(node) == code.co_firstlineno
    ]
    return "\n".join(_unparsed(node) for node in nodes if getattr(node, "name", "<lambda>") == code.co_name)


def _constant(item: Any) -> str:
    return _source(item) if isinstance(item, CodeType) else repr(item)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _first_line(node: ast.AST) -> int:
    return min(getattr(part, "lineno", 0) for part in (node, *getattr(node, "decorator_list", ())))


def _tree(file: str) -> ast.Module | None:
    """The syntax tree of a file as it is now, or of a notebook's cell; None where there is no source."""
    linecache.checkcache(file)
    return _parsed("".join(linecache.getlines(file)))


@lru_cache(maxsize=64)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text) if text else None
    except (SyntaxError, ValueError):
        return None


def _unparsed(node: ast.AST) -> str:
    """Source without comments and docstrings."""
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            part.body = part.body[1:] if _is_text(part.body[:1]) else part.body
    return ast.unparse(copy)


def _is_text(body: Sequence[ast.stmt]) -> bool:
    values = [line.value for line in body if isinstance(line, ast.Expr)]
    return any(isinstance(value, ast.Constant) and isinstance(value.value, str) for value in values)


def _targets(node: ast.stmt) -> set[str]:
    """The names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    nodes = chain.from_iterable(ast.walk(target) for target in targets if target is not None)
    return {name.id for name in nodes if isinstance(name, ast.Name)}


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                module = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> str | None:
    """The file of a module, found without importing anything."""
    if module := sys.modules.get(name):
        return getattr(module, "__file__", None)
    path: Any = None
    for end in range(1, name.count(".") + 2):
        spec = PathFinder.find_spec(".".join(name.split(".")[:end]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec.origin if spec else None


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
