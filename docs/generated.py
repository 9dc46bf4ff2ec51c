"""Parts of the site that are made whenever it is built: figures and page of a stored run, and the list of commands."""

from __future__ import annotations

import html
import inspect
from pathlib import Path

STORED = Path(__file__).parent / "gallery" / "quickstart"
LEFT_OUT = ("words",)  # it shows a text under a model, and the stored run has none
FIGURE = """## {title}

```{{image}} {folder}/{kind}.png
:alt: {title} of the quickstart
```

```{{eval-rst}}
.. autofunction:: searchkit.report.figures.{kind}
```
"""


def draw(folder: Path) -> list[str]:
    """Write `<kind>.png` of each figure, and `figures.txt`, a section for each; return the kinds."""
    import searchkit
    from searchkit.report import figures
    from searchkit.report.figures.saved import save

    folder.mkdir(exist_ok=True)
    run = searchkit.open(STORED)
    kinds = [kind for kind in figures.__all__ if kind not in LEFT_OUT]
    for kind in kinds:
        function = getattr(figures, kind)
        save(lambda axes, function=function: function(run, axes), [run.results], folder / f"{kind}.png")
    sections = [FIGURE.format(title=kind.replace("_", " "), folder=folder.name, kind=kind) for kind in kinds]
    (folder / "figures.txt").write_text("\n".join(sections), encoding="utf-8")
    return kinds


def page(file: Path) -> None:
    """Write the page of the stored run."""
    import searchkit
    from searchkit.evaluate.predictions import kept_layers
    from searchkit.report.page import Shown, page

    results = searchkit.open(STORED).results
    layers = kept_layers(STORED / "predictions.parquet", results.study["fingerprint"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page([Shown(results, "runs/quickstart", {}, layers)]), encoding="utf-8")


def commands(file: Path) -> list[str]:
    """Write a section for each command, from what its `--help` says; return their names."""
    import typer

    from searchkit.cli.app import _COMMANDS, app

    known, sections = typer.main.get_command(app).commands, []
    for name, (function, example) in _COMMANDS.items():
        rows = [
            (_names(parameter), _cell(parameter.help or ""))
            for parameter in known[name].params
            if not getattr(parameter, "hidden", False) and parameter.name != "help"
        ]
        table = "\n".join(["| | |", "|---|---|", *(f"| {names} | {text} |" for names, text in rows)])
        text = inspect.getdoc(function) or ""
        sections.append(f"## {name}\n\n{text}\n\n```bash\n{example}\n```\n\n{table}\n")
    file.write_text("\n".join(sections), encoding="utf-8")
    return list(_COMMANDS)


def _cell(text: str) -> str:
    """Text on one line, without what Markdown takes for the end of a cell or for a tag."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _names(parameter: object) -> str:
    """Names of an option, or the word for an argument, as code."""
    metavar = getattr(parameter, "metavar", None)
    if getattr(parameter, "param_type_name", "") == "argument":
        return f"`{metavar or parameter.name.upper()}`"  # type: ignore[attr-defined]
    names = [*parameter.opts, *parameter.secondary_opts]  # type: ignore[attr-defined]
    value = "" if getattr(parameter, "is_flag", False) else f" {(metavar or 'VALUE')}".replace("|", "\\|")
    return ", ".join(f"`{name}`" for name in names) + (f" `{value.strip()}`" if value else "")
