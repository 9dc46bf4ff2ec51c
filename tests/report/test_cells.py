"""HTML for notebooks: what it shows, and that nothing in it comes from data unescaped."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from searchkit import Results
from searchkit.report.cells import results_html
from tests.report.searches import ACCURACY, MACS, staircase

HOSTILE = "<script>alert(1)</script>"


class Cells(HTMLParser):
    """Rows of texts, and the names of all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_front_is_a_table_of_its_members() -> None:
    found = Cells(staircase().front._repr_html_())
    assert [row[1:] for row in found.rows] == [
        ["candidate", "accuracy (fraction)", "macs (of unreduced)"],
        ["lengths 1.0 0.01", "0.6 ± 0.01", "0.2"],
        ["lengths 1.0 0.02", "0.8 ± 0.01", "0.4"],
        ["lengths 1.0 0.03", "0.9 ± 0.01", "0.8"],
    ]


def test_results_show_the_report_split_with_baselines_and_gaps() -> None:
    found = Cells(results_html(staircase()))
    assert [row[0] for row in found.rows].count("front") == 3
    by_key = {(row[0], row[2]): row[3:] for row in found.rows[1:]}
    assert by_key["front", "lengths 1.0 0.02"][:3] == ["-", "-", "-"]  # it failed on the report split
    assert by_key["front", "lengths 1.0 0.03"][0] == "0.850 ± 0.010"
    assert by_key["unreduced", ""][1] == "1"


def test_names_of_objectives_and_families_stay_text() -> None:
    hostile = replace(ACCURACY, name="accuracy", unit=HOSTILE)
    results: Results = staircase(objectives=(hostile, MACS))
    results = replace(results, baselines={**results.baselines, HOSTILE: results.baselines["truncation"]})
    for html in (results_html(results), results._repr_html_()):
        assert "script" not in Cells(html).tags
        assert "&lt;script&gt;" in html
