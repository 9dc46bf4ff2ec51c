"""Rivals of a study: their names, their candidates, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from searchkit import Depth
from searchkit.errors import DataError, SearchkitError, StudyError
from searchkit.tasks import Generated, word_tokenizer
from searchkit.training import FineTune
from searchkit.training.rivals import checked, families, load_rival, names_of
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet

TASK = Generated(train=8, search=4, report=6)
TABLES = TASK.tables(0)


def saved(folder: Path, labels: Sequence[str] = TABLES.labels, head: str = "classification", seed: int = 0) -> str:
    """A model of one layer with these labels, and its tokenizer."""
    words = word_tokenizer(TASK.words())
    model = Supernet(Scratch(layers=1, width=8, heads=2, feed_forward=8), FineTune())
    model.build(words, labels, TASK.max_length, seed, head).save(folder)
    words.save_pretrained(folder)
    return str(folder)


def test_depth_gives_a_rival_for_each_number_of_layers() -> None:
    assert families([Depth(layers=[3, 1, 3])], 6)["depth"] == families([Depth(layers=(1, 3))], 6)["depth"]
    assert [one["layers"] for one in families([Depth()], 12)["depth"]] == [3, 6, 9]
    assert [one["layers"] for one in families([Depth()], 2)["depth"]] == [1]
    assert families([Depth()], 1) == {}  # nothing can be left out


@pytest.mark.parametrize(
    ("rivals", "message"),
    [
        ("small", "rivals is a list of model folders, hub names and Depth(), got 'small'"),
        ([Depth], "rivals is a list of model folders, hub names and Depth()"),
        ([""], "rivals is a list of model folders, hub names and Depth()"),
        (["a", "b", "a"], "rivals has 'a' twice"),
        ([Depth(), Depth(layers=(1,))], "rivals has Depth twice"),
    ],
)
def test_rivals_that_are_no_list_of_models_are_refused_in_one_line(rivals: Any, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        checked(rivals)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "message"),
    [((), "layers are numbers"), (3, "layers are numbers"), ((0,), "at least 1"), ((True,), "must be a whole number")],
)
def test_depths_that_are_no_numbers_of_layers_are_refused_in_one_line(layers: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Depth(layers=layers)


def test_depth_leaves_layers_out() -> None:
    with pytest.raises(StudyError, match="Depth: layers are fewer than the encoder's 4, got 4"):
        families([Depth(layers=(2, 4))], 4)


def test_a_rival_is_called_by_its_folder_and_known_by_its_weights(tmp_path: Path) -> None:
    source = saved(tmp_path / "one" / "small")
    ((family, (first,)),) = families([source], 6).items()
    assert (family, first["rival"]) == ("rival small", "small")
    saved(tmp_path / "one" / "small", seed=1)
    ((second,),) = families([source], 6).values()
    assert second["weights"] != first["weights"]
    other = saved(tmp_path / "two" / "small", seed=1)
    assert list(names_of([source, other]).values()) == [source, other]
    assert names_of(["someone/distilbert", "bert"]) == {"someone/distilbert": "distilbert", "bert": "bert"}


def test_outputs_of_a_rival_are_put_into_the_order_of_the_data(tmp_path: Path) -> None:
    plain, _, data = load_rival(saved(tmp_path / "a"), TABLES.report, TABLES.labels, TASK)
    turned, _, _ = load_rival(saved(tmp_path / "b", TABLES.labels[::-1]), TABLES.report, TABLES.labels, TASK)
    weight, other = plain.view.output.weight, turned.view.output.weight
    assert (weight == other.flip(0)).all()
    assert not (weight == other).all()
    assert len(data) == 6


def altered(folder: str, **settings: Any) -> None:
    file = Path(folder) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize(
    ("labels", "head", "settings", "message"),
    [
        (("bad", "good"), "classification", {}, "the names do not match, so their order is unknown; name them so in"),
        (("a", "b", "c"), "classification", {}, "head has 3 labels, the data 2; a rival is a model that is trained"),
        (("start", "end"), "question_answering", {}, "no classification head, and none is trained; a rival is a model"),
        (TABLES.labels, "classification", {"max_position_embeddings": 8}, "has the shape"),
        (TABLES.labels, "classification", {"model_type": "gpt2"}, "gpt2"),
    ],
)
def test_a_model_of_another_task_is_refused_in_one_line(
    tmp_path: Path, labels: Sequence[str], head: str, settings: dict[str, Any], message: str
) -> None:
    source = saved(tmp_path / "m", labels, head)
    altered(source, **settings)
    with pytest.raises(SearchkitError) as caught:
        load_rival(source, TABLES.report, TABLES.labels, TASK)
    assert str(caught.value).startswith(f"rival {source}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rival_that_takes_shorter_texts_than_the_task_is_refused(tmp_path: Path) -> None:
    longer = Generated(train=8, search=4, report=6, length=(14, 200))
    with pytest.raises(StudyError, match=r"rival .*: max_length=[0-9]+ is more than the encoder takes"):
        load_rival(saved(tmp_path / "m"), TABLES.report, TABLES.labels, longer)


def test_a_folder_that_is_not_there_is_said_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rival ./nothing: there is no such model folder"):
        families(["./nothing"], 3)
