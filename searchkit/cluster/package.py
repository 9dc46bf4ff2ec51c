"""Package of a submitted study: its file, searchkit's code, included files, and a list of requirements."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit.errors import StudyError

if TYPE_CHECKING:
    from searchkit.runs.study_file import Loaded

LIMIT_MIB: Final = 100  # limit of one package of a Ray head
LEFT_OUT: Final = {".git", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", "runs"}
# of files that Ray would leave out without a word
IGNORES: Final = {".gitignore", ".rayignore"}
SENT: Final = ("searchkit", "objectives")
NEEDS: Final = "needs.json"
MUST_MATCH: Final = ("searchkit", "torch")  # their versions decide values; other packages only have to be installed


@dataclass(frozen=True)
class Needs:
    """Requirements of a job, beside its package.

    versions: package -> version; paths: of the study's parameters; runs: the folder of runs, which has to be the one
    that the study was submitted from, or '' if the run goes to a URL
    """

    job: str
    study: str
    versions: dict[str, str]
    paths: list[str]
    runs: str

    def write(self, package: Path) -> None:
        (package / NEEDS).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, package: Path) -> Needs:
        return cls(**json.loads((package / NEEDS).read_text()))


def packed(folder: Path, study: Path, include: Sequence[Path]) -> str:
    """Copy the study and its included files to `folder`, with the paths of the current folder.

    Returns the name of the study's file in it. StudyError for what is missing, lies elsewhere or is too much.
    """
    name = _relative(study) or study.name
    _copy(study, folder / name)
    for package in SENT:
        for file in _sources(package):
            _copy(file, folder / package / file.relative_to(_home(package)))
    for item in include:
        inside = _relative(item)
        if inside is None or inside == ".":
            raise StudyError(f"--include {item}: must lie below the current folder, whose layout the job keeps")
        if not item.exists():
            raise StudyError(f"--include {item}: there is no such file or folder")
        for file in _files(item):
            _copy(file, folder / inside / file.relative_to(item) if item.is_dir() else folder / inside)
    _refuse_shadows(folder)
    _refuse_too_much(folder)
    return name


def mib(folder: Path) -> float:
    """Size of all files below the folder, in MiB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def versions(*modules: str) -> dict[str, str]:
    """Versions of searchkit, the packages it depends on, and those of these modules; without local parts (+cpu)."""
    provided = importlib.metadata.packages_distributions()
    further = {name for module in modules for name in provided.get(module, [])}
    return installed(["searchkit", *sorted({*_dependencies(), *further})])


def installed(names: Sequence[str]) -> dict[str, str]:
    """Versions of these packages on the machine where this is called; '' for one that is missing."""
    from searchkit import __version__

    return {name: __version__ if name == "searchkit" else _installed(name) for name in names}


def pins(installed: Mapping[str, str]) -> list[str]:
    """Versions in pip's notation; searchkit travels along, and Ray is the cluster's own."""
    missing = [name for name, version in installed.items() if not version]
    if missing:
        raise StudyError(f"--environment pip pins what is installed here, and {', '.join(missing)} is not")
    return [f"{name}=={version}" for name, version in installed.items() if name not in ("searchkit", "ray")]


def differences(wanted: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Differences that stop a study on a node: missing packages, other versions of those that decide values."""
    missing = [f"has no {name}" for name in wanted if wanted[name] and not installed.get(name)]
    differing = [
        f"has {name} {installed[name]}, and the study was submitted with {wanted[name]}"
        for name in MUST_MATCH
        if installed.get(name) and installed[name] != wanted.get(name)
    ]
    return missing + differing


def paths(loaded: Loaded, include: Sequence[Path]) -> list[str]:
    """Absolute paths among the parameters, which the cluster has to see too.

    StudyError for a relative path that exists here and is not included: the job would not find it.
    """
    absolute, beside = [], loaded.required_file("submit").parent
    for name, value in _arguments(loaded).items():
        path = Path(value).expanduser()
        if path.is_absolute():
            absolute.append(str(path))
        elif value and (
            existing := next((candidate for candidate in (path, beside / path) if candidate.exists()), None)
        ):
            inside = _relative(existing)
            if not any(inside is not None and _below(inside, _relative(item)) for item in include):
                raise StudyError(
                    f"-p {name}={value} is on this machine only: send it along with --include {existing}, or give an "
                    "absolute path that the cluster sees too"
                )
    return absolute


def _arguments(loaded: Loaded) -> dict[str, str]:
    """Text parameters of the study, defaults included."""
    module = sys.modules["searchkit_study_" + re.sub(r"\W", "_", loaded.required_file("submit").stem)]
    defaults: dict[str, Any] = {
        name: parameter.default for name, parameter in inspect.signature(module.study).parameters.items()
    }
    return {name: value for name, value in {**defaults, **loaded.parameters}.items() if isinstance(value, str)}


def _relative(path: Path) -> str | None:
    """Path relative to the current folder; None if it lies elsewhere."""
    relative = os.path.relpath(os.path.abspath(path.expanduser()))
    return None if relative.split(os.sep)[0] == os.pardir else relative


def _below(inside: str, folder: str | None) -> bool:
    return folder is not None and (inside == folder or inside.startswith(folder + os.sep))


def _home(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StudyError(f"the package {package} is not installed here: pip install searchkit")
    return Path(next(iter(spec.submodule_search_locations)))


def _sources(package: str) -> Iterator[Path]:
    """Files of a package: its code, and what it reads beside it, such as the style of pages."""
    every = (file for file in sorted(_home(package).rglob("*")) if file.is_file())
    return (file for file in every if "__pycache__" not in file.parts and file.suffix != ".pyc")


def _files(item: Path) -> Iterator[Path]:
    if item.is_file():
        yield item
        return
    for folder, folders, names in os.walk(item, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        yield from (Path(folder, name) for name in sorted(names) if name not in IGNORES)


def _copy(file: Path, to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    except OSError as error:
        raise StudyError(f"{file} cannot be packed: {error.strerror}") from error


def _refuse_shadows(folder: Path) -> None:
    """Raise StudyError for a module that every process of the job would import instead of a library's."""
    installed = set(importlib.metadata.packages_distributions())
    for item in sorted(folder.iterdir()):
        name = inspect.getmodulename(item) if item.is_file() else item.name
        if name is None or name in SENT or (item.is_dir() and not (item / "__init__.py").exists()):
            continue
        kind = "Python's" if name in sys.stdlib_module_names else "an installed" if name in installed else ""
        if kind:
            raise StudyError(
                f"{item.name} has the name of {kind} module {name}, which the processes of the job could no longer "
                "import: rename it"
            )


def _refuse_too_much(folder: Path) -> None:
    size = mib(folder)
    if size > LIMIT_MIB:
        largest = max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
        raise StudyError(
            f"{size:.0f} MiB are to be sent and {LIMIT_MIB} are allowed; the largest file is "
            f"{largest.relative_to(folder)}: put large data where the cluster sees them, and give their absolute path"
        )


def _dependencies() -> list[str]:
    try:
        required = importlib.metadata.requires("searchkit") or []
    except importlib.metadata.PackageNotFoundError:
        raise StudyError("searchkit is not installed here, so its versions are not known: pip install it") from None
    names = (re.match(r"[\w.-]+", line) for line in required if "extra ==" not in line)
    return sorted(match.group() for match in names if match)


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""
