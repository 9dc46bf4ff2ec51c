"""Docs: every link leads somewhere, and the tutorial does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from searchkit.cli import app as cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(path for name in ("docs", "examples") for path in (ROOT / name).rglob("*.md"))])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
BLOCK = re.compile(r'^```(python|bash)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        there = (page.parent / place).resolve() if place else page
        assert there.exists(), f"{page.name}: {target}"
        assert ROOT in there.parents, f"{page.name}: {target} leaves the repository"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_no_page_has_marks_of_a_merge() -> None:
    marked = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [page.name for page in PAGES if marked.search(page.read_text())] == []


def test_there_are_links_to_check_and_no_page_is_an_orphan() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text())
    }
    assert [page.name for page in PAGES if page not in linked and page.name not in ("README.md", "index.md")] == []


COMMAND = re.compile(r"^(?:\$ )?searchkit (\w+)((?: .*)?)$", re.MULTILINE)
FENCE = re.compile(r"^```(?:bash|sh|console)?[^\n`]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_command_and_option_in_the_pages_exists() -> None:
    app = typer.main.get_command(cli.app)
    seen = 0
    for page in PAGES:
        for block in FENCE.findall(page.read_text()):
            for name, rest in COMMAND.findall(block.replace("\\\n", " ")):
                assert name in app.commands, f"{page.name}: searchkit {name}"
                own = {option for parameter in app.commands[name].params for option in parameter.opts}
                given = re.findall(r"(?<=\s)--?[a-z][\w-]*", re.split(r"\s#|\s-- ", rest)[0])
                assert {*given} <= own | {"--help"}, f"{page.name}: searchkit {name}{rest}"
                seen += 1
    assert seen >= 40


def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    tutorial = (ROOT / "docs" / "tutorials" / "first-study.md").read_text()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    printed = ""
    for language, title, code in BLOCK.findall(tutorial):
        if language == "python":
            assert title, "a python block of the tutorial is a file and has a title"
            (tmp_path / title).write_text(code)
            continue
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"
        printed += result.stdout
    assert (tmp_path / "runs" / "my-study" / "pareto.png").is_file()
    assert "48 of 48 evaluations" in printed
    assert "every one is the stored one" in printed
    assert "accuracy_report" in printed


def test_the_readmes_study_is_the_one_in_the_folder_of_studies() -> None:
    """The README shows the study in its shortest form: the same calls, fewer parameters."""
    shown = BLOCK.search((ROOT / "README.md").read_text()[(ROOT / "README.md").read_text().index("## What it does") :])
    assert shown is not None
    kept = (ROOT / "studies" / "sst2_lengths.py").read_text()
    for line in shown.group(3).splitlines():
        if line.startswith(
            ("from ", "        name=", "        space=", "        objectives=", "        front_", "        engine=")
        ):
            assert line in kept, line
