"""Folders that serve: written beside their place, tested in a fresh process, and only then put there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.files import replace_whole
from searchkit.errors import StudyError
from searchkit.hf.convert import shipped_model
from searchkit.reduction.checkpoint import quiet_transformers
from searchkit.ship.check import GRAPH
from searchkit.ship.graph import save
from searchkit.ship.shipment import Shipment

if TYPE_CHECKING:
    import onnx

RECORD: Final = "searchkit.json"  # beside a graph: plan, measurements and origin
CARD: Final = "README.md"
LENGTH: Final = "sentence_bert_config.json"


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A folder that becomes `to` if all goes well, else nothing of it is left; StudyError if `to` exists."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError(f"--to {to}: it exists; name a new folder, or remove it first")
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise StudyError(f"--to {to}: cannot write there: {error.strerror}") from error
    try:
        yield partial
        if to.exists():
            to.rmdir()
        os.replace(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_pytorch(shipment: Shipment, folder: Path) -> Any:
    """Write a folder for transformers (`import searchkit.hf`), with every plan of the front; return its model."""
    model = shipped_model(shipment.model, shipment.notes())
    with quiet_transformers():
        model.save_pretrained(folder)
    _write_tokenizer(shipment, folder)
    return model


def write_stock(shipment: Shipment, folder: Path) -> None:
    """Write the unreduced model as its stock class, without plans and predictors: transformers alone loads it."""
    stock = shipment.model.stock
    notes = stock.config.__dict__.pop("searchkit", None)
    try:
        stock.config.problem_type = stock.config.problem_type or shipment.model.head.problem_type
        with quiet_transformers():
            stock.save_pretrained(folder)
    finally:
        if notes is not None:
            stock.config.searchkit = notes
    _write_tokenizer(shipment, folder)


def write_onnx(shipment: Shipment, proto: onnx.ModelProto, folder: Path) -> None:
    """Write a graph of the chosen member with a stock config, as servers of ONNX models expect it.

    text-embeddings-inference reads sizes by these names, whatever the family calls them, and the length of texts from
    a file of sentence-transformers.
    """
    save(proto, folder / GRAPH)
    stock = shipment.model.stock
    config: dict[str, Any] = {
        **stock.config.to_dict(),
        "architectures": [type(stock).__name__],
        "problem_type": stock.config.problem_type or shipment.model.head.problem_type,
        "hidden_size": stock.config.hidden_size,
        "num_hidden_layers": stock.config.num_hidden_layers,
        "pad_token_id": shipment.special.pad,
    }
    config.pop("searchkit", None)
    _write_json(folder / "config.json", config)
    _write_json(folder / LENGTH, {"max_seq_length": shipment.max_length})
    _write_tokenizer(shipment, folder)


def write_record(shipment: Shipment, folder: Path, more: dict[str, Any]) -> None:
    """Write plan, measurements and origin as JSON."""
    _write_json(folder / RECORD, {**shipment.notes(), "about": dict(shipment.about), **more})


def _write_tokenizer(shipment: Shipment, folder: Path) -> None:
    """The tokenizer cuts where the task did, if it is asked to truncate."""
    tokenizer = shipment.tokenizer
    tokenizer.model_max_length = shipment.max_length
    tokenizer.save_pretrained(folder)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    replace_whole(file, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
