"""Tables at every width: names are whole, lines fit, numbers stand below one another."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Trial
from searchkit.report.columns import Name, Numbers, in_full, in_letters, in_numbers, tables, wrapped
from searchkit.report.console import console_text
from searchkit.report.results import Results
from searchkit.report.text import markdown
from tests.report.searches import ACCURACY, MACS, staircase, unmeasurable

APART = tuple(
    Objective(name, unit, "lower", unmeasurable)
    for name, unit in (("latency", "ms at batch 16 of 128 tokens"), ("peak_memory", "MiB"), ("joules", "mJ"))
)


def measured(number: int, **candidate: Any) -> Trial:
    estimates = {
        "accuracy": Estimate(0.7 + 0.02 * number, 0.011, 900),
        "macs": Estimate(0.1 + 0.07 * number, None, 900),
        "latency": Estimate(2.0 + 31 * number, 0.024, 80),
        "peak_memory": Estimate(120.5 + number, None, 1),
        "joules": Estimate(0.5, 0.1, 10),
    }
    return Trial(Ask(number, Candidate.of(candidate)), Measured(estimates), 0.5, {"device": "cpu"})


def search(layers: int, levels: int = 12) -> Results:
    """A front of 12 candidates of so many layers, with baselines as a run has them."""
    rng = np.random.default_rng(layers)
    values = np.linspace(1, 0.03, levels).round(2)
    drawn = [tuple(sorted(rng.choice(values, layers).tolist(), reverse=True)) for _ in range(12)]
    trials = tuple(measured(number, lengths=lengths) for number, lengths in enumerate(drawn))
    constant = [measured(9, lengths=tuple(round(0.9 ** (layer + 1), 2) for layer in range(layers)))]
    return staircase(
        front_objectives=APART,
        trials=trials,
        report={trial.key: trial for trial in trials},
        baselines={
            "unreduced": (measured(12, baseline="unreduced"),),
            "truncation": tuple(measured(9, baseline="truncation", share=share) for share in (0.8, 0.45)),
            "constant ratio": tuple(constant),
        },
    )


@pytest.mark.parametrize("layers", [2, 6, 12, 24])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_names_are_whole_and_lines_fit_at_every_width(layers: int, width: int) -> None:
    lines = console_text(search(layers), width).splitlines()
    assert max(map(len, lines)) <= width
    for name in ("unreduced", "truncation .8", "truncation .45", "constant ratio"):
        assert any(line.startswith(name + " ") or line == name for line in lines), name
    text = " ".join(lines)
    for cell in ("0.700 ± 0.011", "2.000 ± 0.024", "0.920 ± 0.011", "126.5"):
        assert cell in text, cell
    for word in ("accuracy", "fraction", "unreduced", "latency", "tokens", "joules", "memory"):
        assert re.search(rf"\b{word}\b", text), word


def test_every_candidate_can_be_told_from_its_letters_and_the_legend() -> None:
    results = search(12)
    text = console_text(results, 80)
    legend = re.search(r"a letter for each layer: ((?:\w [.\d]+,?\s*)+)", text)
    assert legend
    values = dict(re.findall(r"(\w) ([.\d]+)", legend[1]))
    assert list(values) == sorted(values)
    strips = re.findall(r"^([A-Z]{12}) ", text, re.MULTILINE)
    shown = {tuple(float(values[letter]) for letter in strip) for strip in strips}
    assert shown == {trial.ask.candidate["lengths"] for trial in results.trials}


def test_candidates_are_listed_where_letters_do_not_suffice() -> None:
    names = [Name("", Candidate.of(lengths=tuple(range(100 + i, 112 + i)), share=0.5)) for i in range(40)]
    assert in_letters(names) is None
    text = tables(names, [Numbers("accuracy", "fraction", ["0.9"] * 40)], 40)
    assert "\n40         " in text
    assert "40: lengths 139 140 141 142 143 144 145" in text
    assert "candidate" in text


def test_values_of_a_layer_stand_below_one_another() -> None:
    names = [Name("", Candidate.of(lengths=(1.0, 0.5, 0.25), eta=(0.1, 0.02, 0.0)))]
    names.append(Name("", Candidate.of(lengths=(0.75, 0.5, 0.125), eta=(0.0, 0.0, 0.0))))
    assert in_full(names).names == [".1 .02 0 | 1   .5 .25", "0  0   0 | .75 .5 .12"]
    assert in_full(names).heading == "eta | lengths"
    letters = in_letters(names)
    assert letters
    assert letters.names == ["ABC | ACD", "CCC | BCE"]
    assert in_numbers(names).legend[0] == "1: eta .1 .02 0 | lengths 1 .5 .25"


def test_decimal_points_and_errors_stand_below_one_another() -> None:
    cells = ["0.850 ± 0.010", "12.00 ± 0.20", "1", "-", "0.4711", "123 ± 40", ""]
    text = tables(
        [Name("", Candidate.of(n=n)) for n in range(len(cells))], [Numbers("accuracy", "fraction", cells)], 80
    )
    rows = text.splitlines()[3:]
    points = {row.index(".") for row in rows if "." in row}
    signs = {row.index("±") for row in rows if "±" in row}
    assert (len(points), len(signs)) == (1, 1)


def test_nothing_but_ascii_where_the_terminal_has_nothing_else() -> None:
    text = console_text(search(12), 80, ascii_only=True)
    assert text.isascii()
    assert "0.700 +- 0.011" in text


def test_a_table_without_rows_and_one_of_baselines_alone() -> None:
    assert "accuracy" in tables([], [Numbers("accuracy", "fraction", [])], 40)
    names = [Name("unreduced", Candidate.of(baseline="unreduced"))]
    assert tables(names, [Numbers("accuracy", "fraction", ["1"])], 40).splitlines()[-1].startswith("unreduced  ")


def test_a_number_and_its_percent_sign_are_not_parted() -> None:
    assert wrapped("a paired difference at 95 % of it", 25) == ["a paired difference at", "95 % of it"]


def test_what_could_not_be_measured_and_what_was_timed_badly_is_said() -> None:
    busy = {"settled": 0.0, "contended": 1.0}
    slow, fast = (Estimate(2.0, 0.1, 80, beside) for beside in (busy, {"settled": 1.0, "contended": 0.0}))
    latency = APART[0]

    def timed(number: int, estimate: Estimate, **candidate: Any) -> Trial:
        trial = measured(number, **candidate)
        assert isinstance(trial.outcome, Measured)
        return Trial(trial.ask, Measured({**trial.outcome.estimates, "latency": estimate}), 0.1)

    failed = Trial(
        Ask(7, Candidate.of(baseline="truncation", share=0.5)), Failed("exception", "KeyError: 'x'\nmore"), 0.1
    )
    lacking = Trial(failed.ask, Measured({"accuracy": Estimate(0.5, 0.1, 9)}), 0.1)
    first, second = timed(1, slow, lengths=(1.0, 0.5)), timed(2, fast, lengths=(1.0, 0.9))
    results = staircase(
        objectives=(ACCURACY, MACS),
        front_objectives=(latency,),
        trials=(first, second),
        report={first.key: first, second.key: second},
        baselines={"truncation": (failed, lacking)},
    )
    text = " ".join(console_text(results, 200).split())
    assert "1 x exception: KeyError: 'x' more; 1 x without macs, latency" in text
    assert "Not measured on the report split: 2 of 2 baselines (truncation)" in text
    assert (
        "Latency on the report split, 2 values timed: 1 while the machine was busy with something else, 1 have" in text
    )

    assert "while the machine was busy" in markdown(results)
