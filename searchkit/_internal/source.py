"""Source of functions, files and modules, as syntax trees and as text that comments and docstrings do not change.

Nothing is imported to read it.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import chain
from types import CodeType
from typing import Any, Final

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def global_names(code: CodeType) -> Iterator[str]:
    """Module-level names that a function reads, those of the functions in it included, in the order of the code."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


@cache
def source_of(code: CodeType) -> str:
    """The source of a function as it was when this was first asked; bytecode where a file is missing or was edited."""
    tree = tree_of(code.co_filename)
    if tree is None or code not in _codes(compile(tree, code.co_filename, "exec", dont_inherit=True)):
        return repr((code.co_code.hex(), code.co_names, [_constant(item) for item in code.co_consts]))
    nodes = [
        node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and _first_line(node) == code.co_firstlineno
    ]
    return "\n".join(unparsed(node) for node in nodes if getattr(node, "name", "<lambda>") == code.co_name)


def _constant(item: Any) -> str:
    return source_of(item) if isinstance(item, CodeType) else repr(item)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _first_line(node: ast.AST) -> int:
    return min(getattr(part, "lineno", 0) for part in (node, *getattr(node, "decorator_list", ())))


def tree_of(file: str) -> ast.Module | None:
    """The syntax tree of a file as it is now, or of a notebook's cell; None where there is no source."""
    linecache.checkcache(file)
    return parsed("".join(linecache.getlines(file)))


@lru_cache(maxsize=64)
def parsed(text: str) -> ast.Module | None:
    """The syntax tree of a text; None where it is empty or no Python."""
    try:
        return ast.parse(text) if text else None
    except (SyntaxError, ValueError):
        return None


def unparsed(node: ast.AST) -> str:
    """Source without comments and docstrings."""
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            part.body = part.body[1:] if _is_text(part.body[:1]) else part.body
    return ast.unparse(copy)


def _is_text(body: Sequence[ast.stmt]) -> bool:
    values = [line.value for line in body if isinstance(line, ast.Expr)]
    return any(isinstance(value, ast.Constant) and isinstance(value.value, str) for value in values)


def targets(node: ast.stmt) -> set[str]:
    """The names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    nodes = chain.from_iterable(ast.walk(target) for target in targets if target is not None)
    return {name.id for name in nodes if isinstance(name, ast.Name)}


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Modules that code in `package` imports anywhere, with the names taken from them, which may be modules too."""
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


def file_of(name: str) -> str | None:
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
