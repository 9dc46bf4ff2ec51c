"""Warnings of the training are lines of the terminal."""

from __future__ import annotations

import logging

import pytest

from searchkit.cli.notices import notices


def test_a_warning_of_the_training_is_one_line_and_others_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with notices():
        logging.getLogger("searchkit.training.checkpoint").warning("the head is [new]:\n%s", "classifier.bias")
        logging.getLogger("searchkit.training.checkpoint").info("nothing of note")
        logging.getLogger("searchkit.evaluate.trial").warning("now one by one")
    logging.getLogger("searchkit.training.checkpoint").warning("later")
    assert capsys.readouterr().err == "note: the head is [new]: classifier.bias\n"
