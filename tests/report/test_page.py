"""The page without a browser: what stands in it before any script runs, and that no text of the data becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.objective import Objective
from searchkit.records import Failed, Trial
from searchkit.report.adopted import with_ratios
from searchkit.report.limits import Limit
from searchkit.report.page import Example, Shown, page
from searchkit.report.page.commands import picking_limits
from searchkit.report.page.markup import data, escaped, tag
from searchkit.report.page.scale import Scale
from searchkit.report.pick import pick
from tests.report.pages import HOSTILE, LATENCY, LAYERS, measured, run, shown
from tests.report.searches import ACCURACY, noisy, paired, questions, staircase, unmeasurable


class Parsed(HTMLParser):
    """Elements of a page with their attributes, and the text of the data block."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = f"{tag} {dict(attrs).get('type') or ''}".strip()

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def named(self, name: str, **attributes: str) -> list[dict[str, str | None]]:
        found = (own for tag, own in self.elements if tag == name)
        return [own for own in found if all(own.get(key) == value for key, value in attributes.items())]

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script application/json"])
        return found


def test_the_policy_allows_the_one_script_and_style_and_nothing_else() -> None:
    text = page([shown()])
    (policy,) = Parsed(text).named("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    assert rules["default-src"] == "'none'"
    for name, rule in (("script", "script-src"), ("style", "style-src")):
        (own,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "style=" not in text
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", text) == ["data:,"]


def test_the_first_state_reads_without_a_script() -> None:
    parsed = Parsed(page([shown()]))
    assert len(parsed.named("tr", **{"class": "member"})) == 5
    assert len(parsed.named("g", role="option")) == 3 * 5  # macs, latency, latency in another setting
    assert len(parsed.named("g", role="option", **{"aria-selected": "true"})) == 3
    assert [own["checked"] for own in parsed.named("input", type="radio") if "checked" in own] == [None]
    assert len(parsed.named("span", **{"class": "k10"}) + parsed.named("u", **{"class": "k10"})) >= 1


def test_every_value_of_the_front_stands_in_the_table_with_its_interval() -> None:
    results = run()
    parsed = Parsed(page([shown(results)]))
    cells = [own["data-v"] for own in parsed.named("td") if "data-v" in own]
    for trial in results.report.values():
        for name in ("accuracy", "macs", "latency"):
            estimate = trial.estimates[name]
            assert estimate.interval is not None
            low, high = estimate.interval
            assert f"{estimate.value:.9g} {low:.9g} {high:.9g}" in cells


def test_every_member_has_a_text_for_every_slot() -> None:
    parsed = Parsed(page([shown()]))
    slots = sum("data-slot" in own for _, own in parsed.elements)
    assert slots > 30
    assert [len(texts) for texts in parsed.content["slots"].values()] == [slots] * 5


def test_the_pick_command_of_a_member_chooses_it() -> None:
    for results in (paired(), run(), questions()):
        limits = picking_limits(results)
        assert limits
        for key, own in limits.items():
            again = [Limit.parsed(str(limit)) for limit in own]
            assert pick(results, again).trial.key == key
    assert len(picking_limits(run())) == 5


def test_commands_quote_the_folder() -> None:
    parsed = Parsed(page([shown(folder="my runs/a'b $(x)")]))
    commands = [text for texts in parsed.content["slots"].values() for text in texts if text.startswith("searchkit ")]
    assert len(commands) == 10
    assert all(shlex.split(command)[2] == "my runs/a'b $(x)" for command in commands)


def test_no_text_of_the_data_becomes_markup() -> None:
    plain, hostile = shown(), run(name=HOSTILE)
    failed = Trial(hostile.trials[0].ask, Failed("nan", HOSTILE), 0.1, {HOSTILE: HOSTILE})
    hostile = replace(
        hostile,
        trials=(*hostile.trials, failed),
        baselines={**hostile.baselines, HOSTILE: hostile.baselines["truncation"]},
        duplicates={HOSTILE: 1},
        began_with=HOSTILE,
        front_objectives=(replace(hostile.front_objectives[0], unit=HOSTILE),),
        environment={HOSTILE: HOSTILE},
    )
    example = Example((HOSTILE,) * 3, LAYERS, dict.fromkeys(hostile.report, (0, 1, 2)), HOSTILE)
    text = page([shown(hostile, folder=HOSTILE, words=(example,))])
    parsed = Parsed(text)
    allowed = {tag for tag, _ in Parsed(page([plain])).elements}
    assert {tag for tag, _ in parsed.elements} <= allowed
    assert not any(name.startswith("on") for _, own in parsed.elements for name in own)
    assert text.count("<script") == 2
    assert "\u202e" not in text
    assert "\u2028" not in text


@given(st.text())
def test_data_blocks_hold_any_text_and_cannot_be_ended_by_it(text: str) -> None:
    block = data({"text": text})
    (content,) = re.findall(r"<script[^>]*>(.*)</script>", block, re.S)
    assert not set(content) & set("<>&")
    assert json.loads(content) == {"text": text}


@given(st.text())
def test_an_element_holds_any_text_as_text(text: str) -> None:
    parsed = Parsed(tag("p", text, title=text))
    assert [name for name, _ in parsed.elements] == ["p"]
    assert not set(escaped(text)) & set("<>\"'")


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_numbers_inside_the_axis(low: float, width: float) -> None:
    scale = Scale(low, low + width, 0, 100)
    ticks = scale.ticks
    assert 1 <= len(ticks) <= 7
    assert all(-1e-6 <= scale.at(tick) <= 100.01 for tick in ticks)


def test_the_same_runs_make_the_same_page() -> None:
    assert page([shown(), shown(run(name="other"))]) == page([shown(), shown(run(name="other"))])


@pytest.mark.parametrize(
    "results",
    [staircase(), noisy(), paired(), questions(), staircase(report={}, baselines={}), staircase(trials=(), report={})],
)
def test_any_run_has_a_page(results: Any) -> None:
    parsed = Parsed(page([Shown(results, "runs/demo")]))
    assert parsed.named("h1")


def test_a_run_without_the_work_of_layers_shows_what_is_known() -> None:
    full = shown()
    whole = full.results.baselines["unreduced"][0].key
    for kept in ({}, {key: own for key, own in full.layers.items() if key != whole}, {whole: full.layers[whole]}):
        parsed = Parsed(page([replace(full, layers=kept)]))
        assert len(parsed.named("rect", **{"data-slot": ""})) == (LAYERS if not kept else 2 * LAYERS)


def test_several_runs_stand_side_by_side() -> None:
    other = run(members=4, name="other")
    parsed = Parsed(page([shown(), shown(other, folder="runs/other")]))
    assert len(parsed.named("section", **{"class": "panel"})) == 2
    assert len(parsed.named("tr", **{"class": "member", "data-run": "1"})) == 4
    assert len(parsed.named("circle", **{"data-run": "1"})) == 4
    assert [own["pick"] for own in parsed.content["runs"]] == ["searchkit pick runs/demo", "searchkit pick runs/other"]


def test_runs_of_the_same_name_are_told_apart_by_their_folders() -> None:
    text = page([shown(), shown(folder="elsewhere/demo"), shown(run(name="other"))])
    assert "<h1>demo in runs/demo, demo in elsewhere/demo, other</h1>" in text


def test_runs_of_other_qualities_and_units_have_figures_and_columns_of_their_own() -> None:
    slow = replace(LATENCY, unit="ms at batch 8")
    other = Shown(questions(), "runs/questions")
    parsed = Parsed(page([shown(settings={}), shown(run(front_objectives=(slow,)), settings={}), other]))
    figures = [str(own["aria-label"]) for own in parsed.named("svg", role="group")]
    assert [re.sub(r", (?:higher|lower) is better", "", figure) for figure in figures] == [
        "accuracy (fraction) over macs (of unreduced)",
        "exact match (fraction) over macs (of unreduced)",
        "accuracy (fraction) over latency (ms at batch 1)",
        "accuracy (fraction) over latency (ms at batch 8)",
        "exact match (fraction) over latency (ms)",
    ]
    axes = [own["data-axis"] for own in parsed.named("th") if "data-axis" in own]
    assert axes == ["accuracy", "macs", "latency", "latency#1", "exact_match", "f1", "latency#2"]


def test_rivals_are_points_and_other_runtimes_only_over_times() -> None:
    text = page([shown(settings={})])
    macs, latency = re.findall(r'<svg[^>]* role="group".*?</svg>', text, re.S)
    for figure, kinds in ((macs, {"rival small"}), (latency, {"rival small", "onnxruntime"})):
        drawn = Parsed(figure)
        assert {own["data-kind"] for own in drawn.named("g", **{"class": "point rival r0"})} == kinds


def test_limits_of_the_study_are_lines_at_their_numbers() -> None:
    constraints = [
        {"objective": {"name": "macs", "unit": "of unreduced", "better": "lower"}, "at_most": 0.7},
        {"objective": {"name": "accuracy", "unit": "fraction", "better": "higher"}, "within": 0.05},
    ]
    parsed = Parsed(page([shown(run(study={"name": "demo", "constraints": constraints}))]))
    lines = {own["data-axis"]: own["aria-valuenow"] for own in parsed.named("g", role="slider", **{"class": "limit"})}
    assert {str(axis): float(str(value)) for axis, value in lines.items()} == pytest.approx(
        {"macs": 0.7, "accuracy": 0.88}
    )


def test_costs_of_the_same_value_in_another_setting_are_shown_once() -> None:
    parsed = Parsed(page([shown()]))
    axes = [own["data-axis"] for own in parsed.named("th") if "data-axis" in own]
    assert axes == ["accuracy", "macs", "latency", "latency@ab12cd34"]


def test_of_many_trials_those_that_can_be_told_apart_are_drawn_and_counted() -> None:
    text = page([shown(run(trials=5_000))])
    (drawn,) = re.findall(r'<path d="([^"]*)" class="trials r0"', text)
    places = re.findall(r"M([\d.]+) ([\d.]+)h0", drawn)
    assert len(set(places)) == len(places) == 2_000
    assert "2,000 of 5,005 trials are drawn, the others lie beyond the axes or near these." in text


def test_the_usual_page_is_small() -> None:
    assert len(page([shown(run(members=30, trials=600))]).encode()) < 200_000


def test_an_objective_of_losses_is_a_quality_too() -> None:
    losses = (Objective("macs", "of unreduced", "lower", unmeasurable), replace(ACCURACY, better="lower"))
    assert Parsed(page([shown(run(objectives=losses))])).named("svg", role="group")


def test_assets_are_packaged() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"report/page/page.css", "report/page/page.js"' in text


def test_a_constant_ratio_among_the_members_is_shown_without_values_of_the_search_split() -> None:
    plain = run()
    ratio = measured(9, 0.96, 0.4, 4.0, lengths=(0.7,) * LAYERS)
    adopted = with_ratios(replace(plain, baselines={**plain.baselines, "constant ratio": (ratio,)}))
    assert [member.key for member in adopted.members if not member.estimates] == [ratio.key]
    parsed = Parsed(page([shown(adopted)]))
    assert len(parsed.named("tr", **{"class": "member"})) == 6
    (texts,) = [texts for texts in parsed.content["slots"].values() if ratio.key in texts]
    assert any("constant ratio" in text for text in texts)
