"""What a run shows: words, rationales and figures, by the command line and in Python, for both kinds of heads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

import searchkit
from searchkit.cli.app import app
from searchkit.errors import DataError, StudyError
from searchkit.report.words import Word
from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from searchkit.runs.words import joined
from searchkit.tasks.pieces import Pieces
from tests.studies import small_study

QUESTIONS = dedent(
    '''
    """One tiny layer more than one on generated questions."""
    from objectives import f1, macs
    from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
    from searchkit.tasks import GeneratedQuestions
    from searchkit.training import FineTune


    def study() -> Study:
        return Study(
            name="questions",
            task=GeneratedQuestions(train=16, search=20, report=20),
            supernet=Supernet(Scratch(layers=2, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=1)),
            space=Space(Lengths(levels=4)),
            objectives=[f1, macs],
            engine=NSGA2(population=4),
            budget=Budget(evaluations=4),
        )
    '''
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home, threads = tmp_path_factory.mktemp("words"), torch.get_num_threads()
    conditions = Conditions(runs=home / "runs", threads=1, dtype="fp32")
    execute(load(small_study(home), {"evaluations": "16", "documents": "64"}), conditions)
    (home / "questions.py").write_text(QUESTIONS)
    execute(load(home / "questions.py", {}), conditions)
    yield home
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small(home: Path) -> Any:
    return searchkit.open(home / "runs/small")


def test_words_of_an_example_fall_as_the_lengths_of_the_member_say(small: Any) -> None:
    row = small.front.iloc[0]
    shown = small.words(key=row["key"], rows=[3])
    (example,) = shown.examples
    lengths = shown.candidate["lengths"]
    whole = len(example.words) + 2  # [CLS] and [SEP]
    for layer, length in enumerate(lengths[:-1], start=1):
        left = example.alive_after(layer)  # of the tokens one is [CLS], and one may be [SEP]
        assert -(-whole * length // 1) - 2 <= left <= -(-whole * length // 1) - 1
    assert " ".join(word.text for word in example.words) == example.texts[0]
    assert example.has_evidence
    assert example.name == "example 3"
    assert example.label in ("negative", "positive")


def test_predictions_are_those_that_the_run_kept(small: Any) -> None:
    key = small.front["key"][0]
    kept = small.predictions(key).set_index("example")
    for example in small.words(key=key, rows=[0, 5, 7]).examples:
        logits = kept.loc[int(example.name.split()[1]), ["logit_0", "logit_1"]].tolist()
        assert example.predicted == ("negative", "positive")[logits[1] > logits[0]]


def test_a_text_of_ones_own_has_no_label_and_no_evidence(small: Any) -> None:
    text = small.words(rows=[0]).examples[0].texts[0]
    own = small.words(text).examples[0]
    assert (own.name, own.label, own.has_evidence) == ("", "", False)
    chosen = [(word.text, word.layer) for word in small.words(rows=[0]).examples[0].words]
    assert [(word.text, word.layer) for word in own.words] == chosen


def test_questions_show_both_of_their_texts(home: Path) -> None:
    run = searchkit.open(home / "runs/questions")
    (example,) = run.words(rows=[1]).examples
    assert {word.side for word in example.words} == {0, 1}
    assert example.label.startswith("'")
    own = run.words("what is it", "so it is").examples[0]
    assert [word.text for word in own.words] == ["what", "is", "it", "so", "it", "is"]
    with pytest.raises(StudyError, match="question and context"):
        run.words("what is it")
    marked = run.rationales()
    assert marked.examples == 20
    assert 0 < marked.evidence < 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"key": "nothing"}, "unknown member of the front 'nothing'"),
        ({"rows": [100]}, "--row 100: the report split has the rows 0 to 99"),
        ({"examples": 0}, "--examples"),
        ({"text": "a", "second": "b"}, "leave out --second"),
    ],
)
def test_what_cannot_be_shown_is_one_line(small: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        small.words(**given)


def test_an_empty_text_is_refused(small: Any) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        small.words(" ")


def test_rationales_compare_the_survivors_with_three_other_choices(small: Any) -> None:
    frame = small.rationales(best="macs").frame
    assert sorted(set(frame["by"])) == ["attention", "member", "random", "saliency"]
    assert sorted(set(frame["layer"])) == [1, 2, 3]
    for name in ("precision", "recall", "false_positive_rate"):
        assert frame[name].dropna().between(0, 1).all()
        assert (frame[f"{name}_low"].dropna() <= frame[name].dropna() + 0.05).all()
    by_chance = frame[(frame["by"] == "random") & (frame["layer"] == 1)].iloc[0]
    assert by_chance["recall"] == pytest.approx(by_chance["kept"], abs=0.02)


def test_a_task_without_rationales_says_how_to_name_them(home: Path) -> None:
    from searchkit.runs.folder import Folder
    from searchkit.runs.rationales import marked_rows
    from searchkit.runs.words import Reader

    reader = Reader.of(Folder(home / "runs/small"))
    reader.session.__dict__["tables"] = type("Bare", (), {"report": reader.report.drop(columns="rationale")})()
    with pytest.raises(StudyError, match='rationales="column"'):
        marked_rows(Folder(home / "runs/small"), reader)


def test_the_commands_fit_80_columns_and_write_what_they_show(home: Path, tmp_path: Path) -> None:
    run = str(home / "runs/small")
    runner = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})
    shown = runner.invoke(app, ["words", run, "--examples", "2"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("label ") == 2
    scored = runner.invoke(app, ["rationales", run])
    assert "after layer 1" in scored.stdout
    assert max(map(len, scored.stdout.splitlines()[:-1])) <= 80
    data = json.loads(runner.invoke(app, ["words", run, "--row", "4", "--json"]).stdout)
    assert [each["name"] for each in data["examples"]] == ["example 4"]
    drawn = runner.invoke(app, ["words", run, "--row", "4", "--to", str(tmp_path / "words.png")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_whose_supernet_is_gone_says_so(home: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(home / "runs/small", tmp_path / "small")
    with pytest.raises(StudyError, match="the trained supernet of this run is not there"):
        searchkit.open(tmp_path / "small").words()


def test_a_word_stays_as_long_as_one_of_its_pieces() -> None:
    places = np.array([[-1, 0, 0, 0, 1, -1], [-1, 0, 2, 4, 6, -1], [-1, 2, 4, 6, 9, -1], [-1, 0, 0, 1, 2, -1]])
    found = Pieces(("aabbcc", "_____ ddd"), *places)
    assert joined(found, np.array([3, 1, 2, 3, 1, 3]), 2, [(1, 8, 20)]) == [
        Word("aabb", 0, 0, 4, 2, False),
        Word("cc", 0, 4, 6, None, False),
        Word("ddd", 1, 6, 9, 1, True),
    ]


def test_figures_are_drawn_by_command_and_in_python(home: Path, small: Any, tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})
    run = str(home / "runs/small")
    drawn = runner.invoke(app, ["plot", run, run, "pareto", "--to", str(tmp_path / "two.svg")])
    assert drawn.exit_code == 0, drawn.output
    unnamed = runner.invoke(app, ["plot", run, run, "pareto"])
    assert "--to names the file" in str(unnamed.exception)
    assert "small, run 2" in (tmp_path / "two.svg").read_text()
    assert small.plot("lengths", to=tmp_path / "lengths.pdf") is None
    assert (tmp_path / "lengths.pdf").read_bytes().startswith(b"%PDF")
    axes = Figure().add_subplot()
    assert small.plot("macs", ax=axes) is axes
    assert {row["key"] for _, row in small.front.iterrows()} <= set(small.layers)
    with pytest.raises(StudyError, match="timed objectives: none"):
        small.plot("latency", ax=axes)
    with pytest.raises(StudyError, match="is of the figure pareto"):
        small.plot("lengths", ax=axes, cost="macs")
