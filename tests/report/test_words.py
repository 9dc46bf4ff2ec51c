"""Words that survive, as text and as a figure; and survivors against rationales, counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from searchkit.report.rationales import Marked, agreements, figures
from searchkit.report.words import Survivors, Word, WordsOf, in_paragraphs, lines

TEXT = "the film is good"
LAYERS = {"the": 1, "film": 3, "is": 1, "good": None}


def example(name: str = "example 7", evidence: str | None = "good", times: int = 1) -> WordsOf:
    text, words, place = " ".join([TEXT] * times), [], 0
    for word in text.split():
        begin = text.index(word, place)
        place = begin + len(word)
        marked = None if evidence is None else word == evidence
        words.append(Word(word, 0, begin, place, LAYERS[word], marked))
    return WordsOf((text,), tuple(words), 4, name, "positive", "negative")


def test_a_paragraph_for_every_layer_that_drops_something() -> None:
    assert list(lines(example(), 80)) == [
        "example 7: label positive, predicted negative",
        "input       4  the film is *good*",
        "layers 1-2  2  · film · *good*",
        "layers 3-4  1  ··· *good*",
    ]
    assert list(lines(example(evidence=None), 80, ascii_only=True))[-1] == "layers 3-4  1  ... good"


def test_what_nothing_is_dropped_of_is_one_paragraph() -> None:
    whole = WordsOf(("so",), (Word("so", 0, 0, 2, None),), 4)
    assert list(lines(whole, 80)) == ["input to layer 4  1  so"]


def test_no_line_is_longer_than_the_terminal_and_runs_are_numbers() -> None:
    shown = in_paragraphs([example(times=40)], 80)
    assert max(map(len, shown.splitlines())) <= 80
    assert "[3" not in shown
    many = [Word("x", 0, 2 * n, 2 * n + 1, 1 if 2 <= n < 30 else None) for n in range(40)]
    assert "[28]" in in_paragraphs([WordsOf(("x " * 40,), tuple(many), 2)], 80)


def test_two_texts_are_told_apart_and_control_characters_are_spelt_out() -> None:
    pair = WordsOf(("a\x1b[31m", "b"), (Word("a\x1b[31m", 0, 0, 6, None), Word("b", 1, 0, 1, 1)), 1)
    assert list(lines(pair, 80)) == ["input    2  a\\x1b[31m | b", "layer 1  1  a\\x1b[31m | ·"]


def test_rows_are_plain_data_with_the_characters_of_each_word() -> None:
    shown = Survivors("study", "k" * 16, {"lengths": [0.5]}, (example(),))
    assert json.loads(json.dumps(shown.to_json()))["examples"][0]["words"][1] == {
        "word": "film",
        "text": 0,
        "begin": 4,
        "end": 8,
        "layer": 3,
        "evidence": False,
    }
    assert shown.frame["layer"].tolist() == [1, 3, 1, pd.NA]
    assert all(TEXT[row["begin"] : row["end"]] == row["word"] for row in shown.rows)


MARKED = Marked(np.array([0, 0, 0, 0, 1, 1]), np.array([True, False, False, True, False, True]))
SCORES = np.array([0.1, 0.9, 0.9, 0.5, 0.2, 0.3], dtype=np.float32)


def test_the_best_tokens_are_chosen_in_each_example_and_of_equals_the_first() -> None:
    assert MARKED.best(SCORES, np.array([1, 1])).tolist() == [False, True, False, False, False, True]
    assert MARKED.best(SCORES, np.array([3, 0])).tolist() == [False, True, True, True, False, False]


def test_precision_recall_and_false_positives_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_score, recall_score

    fallen = np.array([3, 1, 3, 3, 3, 3])  # of 2 layers: all but one are left
    found = {(each.layer, each.by): each for each in agreements(MARKED, fallen, [SCORES, SCORES], SCORES)}
    member, kept = found[1, "member"], fallen > 1
    assert member.kept == pytest.approx(5 / 6)
    assert member.figures["precision"][0] == pytest.approx(precision_score(MARKED.evidence, kept))
    assert member.figures["recall"][0] == pytest.approx(recall_score(MARKED.evidence, kept))
    assert member.figures["false_positive_rate"][0] == pytest.approx(recall_score(~MARKED.evidence, kept))
    by_chance = found[1, "random"].figures  # 3 of 4 tokens and 2 of 2
    assert by_chance["recall"][0] == pytest.approx((3 * 2 / 4 + 1) / 3)
    assert by_chance["precision"][0] == pytest.approx((3 * 2 / 4 + 1) / 5)
    chosen = MARKED.best(SCORES, np.array([3, 2]))
    assert found[2, "attention"].figures["recall"][0] == pytest.approx(recall_score(MARKED.evidence, chosen))


def test_where_nothing_is_left_precision_is_not_defined() -> None:
    row = figures(MARKED, np.zeros(2), np.zeros(2))
    assert np.isnan(row["precision"]).all()
    assert row["recall"] == (0.0, 0.0, 0.0)


def test_random_choices_agree_as_their_expectation_says() -> None:
    rng = np.random.default_rng(0)
    marked = Marked(np.repeat(np.arange(300), 20), rng.random(6000) < 0.3)
    scores = rng.random(6000).astype(np.float32)
    fallen = np.where(marked.best(scores, np.full(300, 7)), 2, 1)
    found = {each.by: each.figures for each in agreements(marked, fallen, [scores], scores)}
    for name in ("precision", "recall", "false_positive_rate"):
        value, low, high = found["member"][name]
        assert found["random"][name][0] == pytest.approx(value, abs=0.02)
        assert low < value < high
