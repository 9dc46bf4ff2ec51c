"""Study file: its function `study`, and parameters that are given as text."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from searchkit._internal.paths import relative_to
from searchkit.errors import SearchkitError, StudyError, unknown
from searchkit.study import Study


@dataclass(frozen=True)
class Loaded:
    """Study with the file and parameters that it came from; a study that was made in Python has none."""

    study: Study
    file: Path | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)

    def required_file(self, command: str) -> Path:
        """File of the study; StudyError where there is none, and `command` needs it."""
        if self.file is None:
            raise StudyError(f"{self.study.name} was made in Python: `searchkit {command}` needs a study file")
        return self.file


def load(
    file: str | Path,
    parameters: Mapping[str, str] | None = None,
    ran_in: Sequence[Path] = (),
    last: Sequence[Path] = (),
) -> Loaded:
    """Call the function `study` of a Python file, its parameters given as text and converted by their annotations.

    The file may import modules that lie beside it. Relative paths of data and models are looked for in `ran_in`, the
    current folder, the file's own, and `last`.

    Raises StudyError in one line for a missing file, a file without `study`, an unknown or malformed parameter, and
    whatever the file itself raises.
    """
    path, given = Path(file), dict(parameters or {})
    with relative_to(*ran_in, Path(), path.resolve().parent, *last):
        return _loaded(path, given)


def _loaded(path: Path, given: dict[str, str]) -> Loaded:
    define = _function(path)
    arguments = _arguments(define, given, path)
    try:
        study = define(**arguments)
    except SearchkitError as error:
        raise type(error)(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise StudyError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    if not isinstance(study, Study):
        raise StudyError(f"{path}: study() must return a searchkit.Study, got {type(study).__name__}")
    return Loaded(study, path, given)


def _function(path: Path) -> Callable[..., Any]:
    if not path.is_file():
        raise StudyError(f"{path}: there is no such study file")
    if path.suffix != ".py":
        raise StudyError(f"{path}: a study is a Python file, its name ends in .py")
    name = "searchkit_study_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # last: a file there hides no package
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it hides an edit of the same size and second
    try:
        spec.loader.exec_module(module)
    except SearchkitError as error:
        raise type(error)(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise StudyError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = kept
    define = getattr(module, "study", None)
    if not inspect.isfunction(define):
        raise StudyError(f"{path}: the file does not define a function `study` that returns a searchkit.Study")
    return define


def _line(error: BaseException, path: Path) -> str:
    """Line suffix such as ':12', of the study file's last line that the error passed through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{lines[-1]}" if lines else ""


def _arguments(define: Callable[..., Any], given: Mapping[str, str], path: Path) -> dict[str, Any]:
    signature = inspect.signature(define)
    try:
        hints = typing.get_type_hints(define)
    except Exception as error:  # an annotation is any expression
        raise StudyError(f"{path}: the annotations of study(): {type(error).__name__}: {error}") from error
    for name in given:
        if name not in signature.parameters:
            raise StudyError(f"{path}: {unknown('parameter', name, signature.parameters)}")
    for name, parameter in signature.parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise StudyError(f"{path}: the study needs a value for {name!r}: add -p {name}=VALUE")
    return {name: _converted(name, text, hints.get(name, str), path) for name, text in given.items()}


def _converted(name: str, text: str, hint: Any, path: Path) -> Any:
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    if type(None) in options and text.lower() == "none":
        return None
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    for option in (kind for kind in (bool, int, float, str) if kind in options):
        try:
            return words[text.lower()] if option is bool else option(text)
        except (ValueError, KeyError):
            continue
    allowed = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise StudyError(f"{path}: parameter {name}={text!r}: expected {allowed}")
