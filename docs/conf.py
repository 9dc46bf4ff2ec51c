"""Sphinx: the pages of this folder as a site, with an API reference from docstrings. `make docs` builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import generated  # noqa: E402

from searchkit import __version__  # noqa: E402

project, author, release = "searchkit", "the authors of searchkit", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_generated"]  # drawn while the site is built
html_theme = "furo"
html_title = "searchkit"
html_static_path: list[str] = []
html_copy_source = False
html_show_copyright = False
suppress_warnings = ["misc.highlighting_failure"]  # shell and formulas stand in blocks without a language

myst_heading_anchors = 4  # as GitHub makes them
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

FIELD = re.compile(
    r"^[a-z_]+(, [a-z_]+)*: "
)  # a line of a docstring that explains fields, such as `epochs: of the stage`


def make(app: Any) -> None:
    folder = Path(app.srcdir) / "_generated"
    generated.draw(folder)
    generated.commands(folder / "commands.txt")
    generated.page(Path(app.outdir) / "example.html")


def outside(app: Any, name: str, source: list[str]) -> None:
    """Links to files beside this folder, such as examples and benchmarks, become downloads."""
    folder = (ROOT / "docs" / name).parent

    def download(link: re.Match[str]) -> str:
        target = (folder / link[2].partition("#")[0]).resolve()
        if target.is_file() and ROOT / "docs" not in target.parents:
            return f"{{download}}`{link[1]} <{link[2]}>`"
        return link[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)", download, source[0])


def docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with Markdown's backticks: paragraphs and examples become reStructuredText."""
    lines[:] = [line for block in re.split(r"\n\s*\n", "\n".join(lines)) for line in [*_block(block), ""]]


def _block(block: str) -> list[str]:
    """Lines of a paragraph or an example; in a paragraph that begins with a field each has its own paragraph."""
    if block.lstrip().startswith(">>>"):
        return block.splitlines()
    text = "\n".join(re.sub(r"([*_|\\])", r"\\\1", line.strip()) for line in block.splitlines())
    text = re.sub(r"`+([^`]+)`+", lambda code: "``" + re.sub(r"\\(.)", r"\1", code[1]) + "``", text)
    is_list = FIELD.match(text.replace("\\", ""))
    return [
        part
        for line in text.splitlines()
        for part in (["", line] if is_list and FIELD.match(line.replace("\\", "")) else [line])
    ]


def setup(app: Any) -> None:
    app.connect("builder-inited", make)
    app.connect("source-read", outside)
    app.connect("autodoc-process-docstring", docstring)
