"""The documentation site: what `make docs` cannot see by itself."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import searchkit
from searchkit.report import figures

ROOT = Path(__file__).parents[1]
DOCUMENTED = re.findall(r"^\.\. auto\w+:: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)


def test_every_public_name_is_in_the_api_reference_once() -> None:
    assert sorted(
        name.removeprefix("searchkit.") for name in DOCUMENTED if name.count(".") == 1 and "searchkit." in name
    ) == sorted(searchkit.__all__)
    assert len(set(DOCUMENTED)) == len(DOCUMENTED)


def test_the_number_of_the_landing_page_is_the_benchmarks() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "serving.json").read_text())["figures"]["rows"]
    kind = {"task": "imdb", "batch": 1, "scope": "model", "runtime": "onnxruntime", "precision": "fp32"}
    own = {row["plan"]: row for row in rows if kind.items() <= row.items()}
    page = (ROOT / "docs" / "index.md").read_text()
    chosen = own["chosen"]
    assert f"{chosen['speedup']:.2f} times as fast" in page
    assert f"(95 % interval {chosen['low']:.2f} to {chosen['high']:.2f})" in page
    assert f"accuracy of {chosen['accuracy']:.3f} instead of {own['unreduced']['accuracy']:.3f}" in page


GENERATED = runpy.run_path(str(ROOT / "docs" / "generated.py"))


def test_the_gallery_has_every_figure_and_the_page(tmp_path: Path) -> None:
    kinds = GENERATED["draw"](tmp_path / "_generated")
    assert {*kinds} == {*figures.__all__} - {"words"}
    text = (tmp_path / "_generated" / "figures.txt").read_text()
    for kind in kinds:
        assert (tmp_path / "_generated" / f"{kind}.png").stat().st_size > 10_000
        assert f"_generated/{kind}.png" in text
    GENERATED["page"](tmp_path / "site" / "example.html")
    assert "runs/quickstart" in (tmp_path / "site" / "example.html").read_text()


def test_every_command_has_a_section_with_its_options(tmp_path: Path) -> None:
    names = GENERATED["commands"](tmp_path / "commands.txt")
    sections = (tmp_path / "commands.txt").read_text().split("## ")[1:]
    assert [section.split()[0] for section in sections] == names
    assert "| `--dry-run` |" in sections[names.index("run")]
    assert "| `--model` `VALUE` |" in sections[names.index("init")]


def test_every_page_is_in_the_table_of_contents() -> None:
    docs = ROOT / "docs"
    listed = {
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", (docs / "index.md").read_text(), re.DOTALL)
        for line in block.splitlines()
    }
    pages = {path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")}
    assert {page for page in pages if not page.startswith(("decisions/", "_generated/"))} - listed == {"index"}


def test_what_padding_is_worth_is_as_the_formula_says() -> None:
    """docs/accounting.md against the products of BERT-base's layers, one by one; its head is left out."""

    def macs(tokens: int, width: int = 768) -> int:
        projections, attention, feed_forward = 4 * tokens * width**2, 2 * tokens**2 * width, 8 * tokens * width**2
        return 12 * (projections + attention + feed_forward)

    page = (ROOT / "docs" / "accounting.md").read_text()
    places = re.findall(r"(\d+) of (\d+)", page.split("## What is counted")[0])
    assert len(places) == 4
    worth = [f"{macs(int(padded)) / macs(int(real)):.1f}x" for real, padded in places]
    assert f"| {' | '.join(worth)} |" in page
    kept = [
        103,
        83,
        67,
        54,
        44,
        36,
        29,
        24,
        20,
        16,
        13,
        11,
    ]  # LAT's smallest lengths at 128, a fifth less at each layer
    smallest = sum(
        4 * before * 768**2 + 2 * before**2 * 768 + 8 * after * 768**2
        for before, after in zip([128, *kept], kept, strict=False)
    )
    assert f"{smallest / macs(128):.3f} of the" in page
    assert f"{smallest / macs(25):.1f} times *more*" in page


def test_a_broken_link_or_anchor_of_the_built_site_is_found(tmp_path: Path) -> None:
    broken = runpy.run_path(str(ROOT / "docs" / "links.py"))["broken"]
    (tmp_path / "a.html").write_text('<a href="b.html#here">1</a><a href="#top">2</a><a href="https://x.y/z">3</a>')
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1><img src="c.png"><a href="../outside.html">4</a>')
    (tmp_path.parent / "outside.html").write_text("")
    assert broken(tmp_path) == ["a.html: #top", "b.html: c.png", "b.html: ../outside.html"]
