"""Imports point one way, `import searchkit` is light, and no file, function or class outgrows its reader."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "searchkit").rglob("*.py"))
SOURCES = [*FILES, *sorted((ROOT / "objectives").rglob("*.py"))]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_MODULES_OF_CLASS = 350, 60, 12


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, except for type checking."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str, among: str = "searchkit") -> set[str]:
    """Files below `among` that import the module or something in it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if path.relative_to(ROOT).as_posix().startswith(among)
        and any(name == module or name.startswith(module + ".") for name in imports(path))
    }


@pytest.mark.parametrize(
    ("library", "home"),
    [
        (
            "optuna",
            {
                "searchkit/engines/optuna.py",
                *(f"searchkit/storage/{name}.py" for name in ("backend", "optuna_trials", "store")),
            },
        ),
        ("sqlalchemy", {"searchkit/storage/sql.py"}),
        ("pymoo", {f"searchkit/engines/{name}.py" for name in ("pymoo_algorithm", "survivors")}),
        ("moocore", {"searchkit/front.py"}),
        ("ray", {f"searchkit/{name}.py" for name in ("evaluate/ray_cluster", "cluster/server", "cluster/jobs")}),
        ("fsspec", {"searchkit/storage/remote.py"}),
        (
            "matplotlib",
            {f"searchkit/report/figures/{name}.py" for name in ("per_layer", "saved", "style", "text", "trade_offs")},
        ),
        (
            "typer",
            {
                f"searchkit/cli/{name}.py"
                for name in ("app", "options", "inspect", "cluster", "figures", "init", "ship", "terminal")
            },
        ),
    ],
)
def test_a_foreign_library_has_one_home(library: str, home: set[str]) -> None:
    assert importers(library) == home


def _fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_importing_searchkit_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'ray', 'optuna', 'pymoo', 'matplotlib', 'transformers', 'datasets', 'pandas', 'numpy'}"
    assert _fresh(f"import sys, searchkit; print({heavy} & set(sys.modules))") == "set()\n"


@pytest.mark.parametrize(
    "room", ["records", "stats", "objective", "front", "space", "engines", "search", "storage", "report"]
)
def test_a_room_that_neither_trains_nor_evaluates_loads_no_torch(room: str) -> None:
    """A report, a status or a pick starts fast, and works where torch is not installed."""
    files = [file for file in FILES if f"searchkit/{room}" in file.as_posix().removesuffix(".py")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    assert modules
    assert _fresh(code) == "False\n"


def test_every_public_name_can_be_reached() -> None:
    assert _fresh("import searchkit; print(all(hasattr(searchkit, name) for name in searchkit.__all__))") == "True\n"
    assert _fresh("import searchkit; print(hasattr(searchkit, 'Nothing'))") == "False\n"


def test_only_the_engine_and_evaluator_that_run_are_loaded_by_the_command_line() -> None:
    assert (
        _fresh("import sys, searchkit.cli.app; print({'torch', 'ray', 'pymoo', 'optuna'} & set(sys.modules))")
        == "set()\n"
    )


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_no_file_is_longer_than_its_limit() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_is_longer_than_its_limit() -> None:
    """With its docstring; decorators do not count."""
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}:{node.name}": 1 + (node.end_lineno or 0) - node.lineno
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_FUNCTION} == {}


def used_modules(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """Each class with the modules of searchkit whose imported names it uses, for type checking too."""
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "searchkit":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                origins[alias.asname or alias.name] = full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            origins |= {a.asname or "searchkit": a.name for a in node.names if a.name.split(".")[0] == "searchkit"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            yield node.name, {origins[name] for name in names & origins.keys()}


def test_the_modules_that_a_class_uses_are_counted() -> None:
    code = """
from searchkit import records
from searchkit.front import Front, losses
class Known:
    front: Front
    def method(self):
        from searchkit.errors import StudyError as Wrong
        raise Wrong(records.Trial, losses)
class Unknown: ...
"""
    modules = {"searchkit.records", "searchkit.front", "searchkit.errors"}
    assert dict(used_modules(ast.parse(code))) == {"Known": modules, "Unknown": set()}


def test_no_class_uses_more_modules_than_its_limit() -> None:
    """A class that knows more has more than one reason to change."""
    uses = {
        f"{path.relative_to(ROOT).as_posix()}:{name}": sorted(modules)
        for path in SOURCES
        for name, modules in used_modules(parsed(path))
    }
    assert {name: modules for name, modules in uses.items() if len(modules) > MOST_MODULES_OF_CLASS} == {}
