"""Figures of the gallery, drawn from the stored run in docs/gallery whenever the site is built."""

from __future__ import annotations

import inspect
from pathlib import Path

STORED = Path(__file__).parent / "gallery" / "quickstart"
LEFT_OUT = ("words",)  # it shows a text under a model, and the stored run has none


def draw(folder: Path) -> list[str]:
    """Write `<kind>.png` of each figure, and `all.txt`, a section for each; return the kinds."""
    import searchkit
    from searchkit.report import figures
    from searchkit.report.figures.saved import save

    folder.mkdir(exist_ok=True)
    run, sections = searchkit.open(STORED), []
    kinds = [kind for kind in figures.__all__ if kind not in LEFT_OUT]
    for kind in kinds:
        function = getattr(figures, kind)
        save(lambda axes, function=function: function(run, axes), [run.results], folder / f"{kind}.png")
        first = (inspect.getdoc(function) or "").split("\n\n")[0]
        sections.append(
            f"## {kind.replace('_', ' ')}\n\n{first}\n\n```python\nfigures.{kind}(run, ax)\n```\n\n"
            f"```{{image}} {folder.name}/{kind}.png\n:alt: {kind.replace('_', ' ')} of the quickstart\n```\n"
        )
    (folder / "all.txt").write_text("\n".join(sections), encoding="utf-8")
    return kinds
