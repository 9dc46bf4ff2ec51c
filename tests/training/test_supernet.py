"""Supernets: trained once, cached under a fingerprint of what decides the weights, saved as stock checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from searchkit.errors import StoreError, StudyError
from searchkit.reduction.loading import load_model
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.tasks import Generated, word_tokenizer
from searchkit.training import FineTune, LengthDrop
from searchkit.training.cache import Trained, fingerprint, train
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet

TASK = Generated(train=64, search=20, report=20)
SUPERNET = Supernet(Scratch(layers=2, width=8, heads=2, feed_forward=8), FineTune(epochs=1, batch_size=32))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("cache")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(cache: Path) -> Trained:
    return train(SUPERNET, TASK, TASK.tables(0), seed=0, cache=cache, device=CPU)


def test_a_supernet_is_trained_once(trained: Trained, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FineTune, "train", None)  # would fail if it were called
    assert train(SUPERNET, TASK, TASK.tables(0), seed=0, cache=cache, device=CPU) == trained
    assert [path.name for path in cache.iterdir()] == [trained.fingerprint]


def test_the_stock_class_loads_what_was_saved_and_predicts_the_same(trained: Trained) -> None:
    from transformers import AutoTokenizer, BertForSequenceClassification

    stock = BertForSequenceClassification.from_pretrained(trained.folder, dtype=torch.float32).eval()
    texts = TASK.tables(0).search["text"].tolist()[:5]
    encoded = AutoTokenizer.from_pretrained(trained.folder)(texts, padding=True, return_tensors="pt")
    ours = load_model(str(trained.folder)).eval()
    with torch.no_grad():
        expected = stock(input_ids=encoded.input_ids, attention_mask=encoded.attention_mask).logits
        packed = Tokens.of_padded(encoded.input_ids, encoded.attention_mask)
        found = ours(packed, ReductionPlan.unreduced(2)).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert stock.config.id2label == {0: "negative", 1: "positive"}


def test_everything_that_decides_the_weights_changes_the_fingerprint() -> None:
    own = fingerprint(SUPERNET, TASK, 0)
    others = [
        fingerprint(SUPERNET, TASK, 1),
        fingerprint(SUPERNET, replace(TASK, train=65), 0),
        fingerprint(replace(SUPERNET, recipe=FineTune(epochs=2, batch_size=32)), TASK, 0),
        fingerprint(replace(SUPERNET, recipe=LengthDrop(start=FineTune(epochs=1, batch_size=32))), TASK, 0),
        fingerprint(replace(SUPERNET, model=Scratch(layers=3, width=8, heads=2, feed_forward=8)), TASK, 0),
    ]
    assert len({own, *others}) == 6
    assert own == fingerprint(SUPERNET, TASK, 0)


def test_a_models_files_decide_its_fingerprint_and_not_its_place(trained: Trained, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained.folder, copy)
    first, second = (Supernet(str(folder), FineTune()) for folder in (trained.folder, copy))
    assert first.describe() == second.describe()
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert first.describe() != second.describe()


def test_a_damaged_record_is_said_so(trained: Trained, cache: Path) -> None:
    record = trained.folder / "searchkit.json"
    whole = record.read_text()
    record.write_text("{")
    try:
        with pytest.raises(StoreError, match=r"searchkit.json is damaged .* remove the folder to train again"):
            train(SUPERNET, TASK, TASK.tables(0), seed=0, cache=cache, device=CPU)
    finally:
        record.write_text(whole)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_attention_dropout_can_be_set_whatever_a_family_calls_it(family: str, tmp_path: Path) -> None:
    from tests.reduction.models import classifier

    classifier(family).save(tmp_path)
    own = Supernet(str(tmp_path), FineTune())
    changed = Supernet(str(tmp_path), FineTune(), attention_dropout=0.25)
    built = changed.build(None, labels=("a", "b", "c"), max_length=32, seed=0)  # type: ignore[arg-type]
    assert {block.attention_dropout for block in built.view.blocks} == {0.25}
    kept = own.build(None, labels=("a", "b", "c"), max_length=32, seed=0)  # type: ignore[arg-type]
    assert {block.attention_dropout for block in kept.view.blocks} != {0.25}
    assert own.describe() != changed.describe()


def test_an_impossible_attention_dropout_is_refused() -> None:
    with pytest.raises(StudyError, match=r"attention_dropout must be in \[0, 1\)"):
        Supernet(Scratch(), FineTune(), attention_dropout=1.0)


def test_sinusoidal_positions_tell_neighbours_and_random_ones_keep_their_fingerprint() -> None:
    """Of sinusoids the product of two positions depends on their distance alone; random ones have no such order."""
    scratch = Scratch(layers=1, width=32, heads=2, feed_forward=8)
    assert scratch.identity() == replace(scratch, positions="random").identity()
    assert "positions" not in scratch.identity()["scratch"]
    tokenizer = word_tokenizer(["a"])
    products = {}
    for positions in ("random", "sinusoidal"):
        supernet = Supernet(replace(scratch, positions=positions), FineTune())
        model = supernet.build(tokenizer, ("a", "b"), max_length=60, seed=0, head="classification")
        weights = model.stock.base_model.embeddings.position_embeddings.weight.detach()
        products[positions] = weights @ weights.T
    near, further = (products["sinusoidal"].diagonal(step) for step in (1, 5))
    torch.testing.assert_close(near, near[:1].expand(len(near)), rtol=1e-4, atol=1e-6)
    assert near[0] > further.max()
    assert products["random"].diagonal(1).std() > 0.1 * products["random"].diagonal().mean()
    assert replace(scratch, positions="sinusoidal").identity() != scratch.identity()


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(StudyError, match="positions"):
        Scratch(positions="learned")  # type: ignore[arg-type]
