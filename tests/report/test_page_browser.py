"""The page in Chromium: nothing is requested, everything works by mouse and keyboard, and it reads at every width."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from searchkit.report.page import Shown, page
from tests.browsers import ABSENT, CHROMIUM, chromium
from tests.report.pages import HOSTILE, run, shown
from tests.report.searches import staircase

pytest.importorskip("playwright", reason="needs playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=ABSENT)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page, and checks afterwards that it had no errors and asked for nothing but its own file."""
    contexts, complaints = [], []
    file = tmp_path / "report.html"

    def open_page(*runs: Shown, width: int = 1200, scheme: str = "light", scripts: bool = True) -> Any:
        file.write_text(page(runs or [shown()]))
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
            )
        )
        tab = contexts[-1].new_page()
        tab.set_default_timeout(5000)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: request.url == file.as_uri() or complaints.append(request.url))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def selected(tab: Any) -> str:
    return str(tab.locator(".panel:visible h2 code").inner_text())


def test_what_python_rendered_is_what_the_script_shows(opened: Open) -> None:
    with_script = opened()
    texts = [text.replace("\xa0", " ") for text in with_script.locator("main [data-slot]").all_text_contents()]
    widths = with_script.locator("rect[data-slot]").evaluate_all("all => all.map(one => one.getAttribute('width'))")
    without = opened(scripts=False)
    assert without.locator("main [data-slot]").all_text_contents() == texts
    assert without.locator(".words").inner_html() == with_script.locator(".words").inner_html()
    assert "searchkit ship runs/demo" in without.locator("main").inner_text()
    assert len(set(widths)) > 3


def test_a_member_is_selected_by_mouse_in_figure_and_table(opened: Open) -> None:
    tab = opened()
    before = selected(tab)
    point = tab.locator("figure:visible [role=option][data-m='0']")
    point.click()
    first = selected(tab)
    assert first != before
    assert point.get_attribute("aria-selected") == "true"
    assert first in tab.locator("tr[aria-current]").inner_text()
    assert f"--key {first}" in tab.locator(".panel:visible .command code").nth(1).inner_text()
    tab.locator("#models .choose").nth(4).click()
    assert selected(tab) not in (before, first)
    assert tab.locator("figure:visible [aria-selected=true]").get_attribute("data-m") == "4"


def test_arrow_keys_walk_along_the_front_and_tab_leaves_it(opened: Open) -> None:
    tab = opened()
    tab.locator("figure:visible [role=option][tabindex='0']").focus()
    tab.keyboard.press("Home")
    seen = [selected(tab)]
    for _ in range(5):
        tab.keyboard.press("ArrowRight")
        seen.append(selected(tab))
    assert len(set(seen)) == 5
    assert seen[-1] == seen[-2]  # the last member is the end
    tab.keyboard.press("ArrowLeft")
    assert selected(tab) == seen[-3]
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('role')") == "slider"


def test_the_selection_is_kept_in_the_address_and_in_every_figure(opened: Open) -> None:
    tab = opened()
    tab.locator("#models .choose").nth(3).click()
    key = selected(tab)
    tab.locator("label", has_text="ab12cd34").click()
    assert tab.locator("figure:visible [aria-selected=true]").get_attribute("data-m") == "3"
    tab.reload()
    assert selected(tab) == key
    assert tab.locator("figure:visible").get_attribute("data-setting") == "ab12cd34"


def test_words_are_shaded_by_the_selected_member_and_struck_out_by_layer(opened: Open) -> None:
    tab = opened()
    words = tab.locator(".words .text > :is(span, u)")

    def shades() -> list[str | None]:
        return [word.get_attribute("class") for word in words.all()]

    before = shades()
    tab.locator("#models .choose").nth(0).click()
    assert shades() != before
    assert shades()[:3] == ["k0", "k1", "k3"]  # dropped by layers 0, 1, 2 of 6
    assert tab.locator(".predicted").inner_text() == ", predicted class 0"
    tab.locator(".layer").fill("1")
    assert shades()[:3] == ["k0 gone", "k1 gone", "k3"]


def test_a_limit_is_dragged_typed_and_moved_by_keys(opened: Open) -> None:
    tab = opened()
    line = tab.locator("figure:visible .limit[data-axis=macs]")
    line.locator(".handle").scroll_into_view_if_needed()
    box = line.locator(".handle").bounding_box()
    assert "where" not in tab.locator("#pick").inner_text()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] - 180, box["y"], steps=4)
    tab.mouse.up()
    value = float(tab.locator("[data-limit=macs]").first.input_value())
    assert 0.3 < value < 0.9
    assert f'--where "macs <= {value:g}"' in tab.locator("#pick").inner_text()
    kept = [float(cell.split()[0]) for cell in shown_cells(tab, "macs")]
    assert kept
    assert max(kept) <= value
    beyond = sum(share > value for share in (0.3, 0.45, 0.6, 0.75, 0.9))
    assert tab.locator("figure:visible [role=option].out").count() == beyond
    line.focus()
    tab.keyboard.press("End")
    assert "where" not in tab.locator("#pick").inner_text()
    assert len(shown_cells(tab, "macs")) == 9
    tab.locator("figure:visible [data-limit=accuracy]").fill("0.9")
    assert min(float(cell.split()[0]) for cell in shown_cells(tab, "accuracy")) >= 0.9
    tab.locator("label", has_text="ab12cd34").click()
    assert tab.locator("#pick").inner_text() == 'searchkit pick runs/demo --where "accuracy >= 0.9" --measured ab12cd34'


def shown_cells(tab: Any, axis: str) -> list[str]:
    """Raw values of the rows that are shown."""
    found: list[str] = tab.evaluate(
        """axis => {
            const at = [...document.querySelectorAll('#models th')].findIndex(head => head.dataset.axis === axis);
            const rows = [...document.querySelectorAll('#models tbody tr')].filter(row => !row.hidden);
            return rows.map(row => row.cells[at].dataset.v);
        }""",
        axis,
    )
    return found


def test_the_table_sorts_filters_and_downloads_what_it_shows(opened: Open) -> None:
    tab = opened()
    accuracy = tab.locator("th[data-axis=accuracy]")
    accuracy.locator("button").click()
    values = [float(cell.split()[0]) for cell in shown_cells(tab, "accuracy")]
    assert values == sorted(values, reverse=True)
    assert accuracy.get_attribute("aria-sort") == "descending"
    accuracy.locator("button").press("Enter")
    assert [float(cell.split()[0]) for cell in shown_cells(tab, "accuracy")] == sorted(values)
    tab.locator("#filter").fill("truncation .8")
    assert len(shown_cells(tab, "macs")) == 1
    tab.locator("#filter").fill("front")
    assert tab.locator("#count").inner_text() == "5 of 9 rows"
    with tab.expect_download() as download:
        tab.locator("#download").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [row["kind"] for row in rows] == ["front"] * 5
    assert [float(row["accuracy"]) for row in rows] == sorted(values)[-5:] or len(rows) == 5
    for row in rows:
        assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])
        assert row["latency@ab12cd34"]


def test_kinds_of_points_and_runs_are_switched_off(opened: Open) -> None:
    tab = opened(shown(), shown(run(members=4, name="other"), folder="runs/other"))
    tab.locator("figure:visible .legend label", has_text="truncation").click()
    assert tab.locator("figure:visible svg [data-kind=truncation]:visible").count() == 0
    assert tab.locator("figure:visible [role=option]:visible").count() == 9
    tab.locator("figure:visible .legend label", has_text="other").click()
    assert tab.locator("figure:visible [role=option]:visible").count() == 5
    tab.locator("#models .choose").nth(6).click()
    assert tab.locator(".panel:visible h2").inner_text().endswith(" of other")
    assert tab.locator("#pick").inner_text() == "searchkit pick runs/other"


def test_commands_are_copied(opened: Open) -> None:
    tab = opened()
    tab.evaluate(
        """Object.defineProperty(navigator, 'clipboard', {
            value: {writeText: async text => { window.copied = text; }},
        })"""
    )
    tab.locator(".panel:visible .copy").nth(1).click()
    assert tab.evaluate("window.copied") == f"searchkit ship runs/demo --key {selected(tab)} --to DIR"


def test_without_a_script_everything_reads_and_costs_can_be_switched(opened: Open) -> None:
    tab = opened(scripts=False)
    drawn = tab.locator("figure:visible > svg")
    assert str(drawn.get_attribute("aria-label")).endswith("macs (of unreduced, lower is better)")
    tab.locator(".tabs label", has_text="latency").first.click()
    assert "latency" in str(drawn.get_attribute("aria-label"))
    assert tab.locator("#models tbody tr:visible").count() == 9
    assert tab.locator(".js:visible").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_reads_at_every_width_and_in_both_schemes(opened: Open, width: int, scheme: str) -> None:
    tab = opened(width=width, scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sizes = tab.evaluate(
        """() => [...document.querySelectorAll('figure svg text')].filter(text => text.getBoundingClientRect().height)
            .map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert sizes
    assert min(sizes) >= 9.5
    paper, ink = (tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    light = ("rgb(255, 255, 255)", "rgb(28, 28, 28)")
    assert (paper, ink) == (light if scheme == "light" else ("rgb(22, 24, 26)", "rgb(236, 236, 236)"))
    assert serious(tab) == []


def serious(tab: Any) -> list[tuple[str, str]]:
    """Serious and critical complaints of axe-core."""
    from axe_playwright_python.base import AXE_FILE_PATH

    source = Path(AXE_FILE_PATH).read_text()
    tab.evaluate(source)
    found = json.loads(tab.evaluate("async () => JSON.stringify((await axe.run()).violations)"))
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def test_hostile_names_and_texts_stay_text(opened: Open) -> None:
    hostile = run(name=HOSTILE)
    tab = opened(shown(hostile, folder=HOSTILE))
    assert "<script>alert(1)</script>" in tab.locator("h1").inner_text()
    assert tab.locator("img").count() == 0
    tab.locator("#models .choose").nth(0).click()
    assert "<img src=x" in tab.locator(".panel:visible .command").nth(1).inner_text()


def test_a_run_with_gaps_opens(opened: Open) -> None:
    tab = opened(Shown(staircase(report={}, baselines={}), "runs/demo"))
    assert "No member of the front was measured" in tab.locator("main").inner_text()
    tab = opened(Shown(staircase(), "runs/demo"))
    assert tab.locator("figure:visible [role=option]").count() == 2  # the third failed on the report split


def test_200_members_and_20_000_trials_open_within_a_second(opened: Open) -> None:
    tab = opened(shown(run(members=200, trials=20_000)))
    ready = tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert ready < 1000
    start = tab.evaluate("performance.now()")
    tab.locator("#models .choose").nth(150).click()
    assert tab.evaluate("performance.now()") - start < 1000
    assert Path(tab.url.removeprefix("file://").split("#")[0]).stat().st_size < 1_500_000
