"""A checkpoint in bfloat16 as files of at most 15 MiB, and back: for machines that return small files only.

`INDEX` names the shards with their checksums, says of which rows of which shard every tensor is made, and holds the
small files of the checkpoint (config, tokenizer) as text. It is written last: without it nothing was written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from searchkit._internal.checks import json_of
from searchkit._internal.files import replace_whole
from searchkit.errors import QUOTED, DataError, StudyError, one_line

INDEX: Final = "checkpoint.json"
WEIGHTS: Final = (".safetensors",)
LARGEST: Final = 15 << 20  # bytes of a shard
ROOM: Final = 1 << 16  # of them for names and shapes
FORMAT: Final = 1


def split(checkpoint: Path, folder: Path, largest: int = LARGEST) -> list[str]:
    """Write the checkpoint's tensors, rounded to bfloat16, and its small files to `folder`; names of the files."""
    pieces: list[tuple[str, str, Tensor]] = []  # (file of the checkpoint, tensor, rows)
    texts: dict[str, str] = {}
    for path in sorted(checkpoint.iterdir()):
        if path.suffix in WEIGHTS:
            for name, tensor in load_file(path).items():
                rounded = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
                pieces += [(path.name, name, piece) for piece in _pieces(rounded, largest - ROOM)]
        elif path.is_file():
            texts[path.name] = path.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    shards, order = {}, list[dict[str, str]]()
    for number, shard in enumerate(_packed(pieces, largest - ROOM)):
        name = f"weights-{number:02d}.safetensors"
        tensors = {str(place): piece.contiguous() for place, (_, _, piece) in enumerate(shard)}
        save_file(tensors, folder / name)
        shards[name] = _checksum(folder / name)
        order += [
            {"shard": name, "key": str(place), "file": file, "tensor": tensor}
            for place, (file, tensor, _) in enumerate(shard)
        ]
    index = {"format": FORMAT, "shards": shards, "pieces": order, "files": texts}
    replace_whole(folder / INDEX, json.dumps(index).encode())
    return [*shards, INDEX]


def _pieces(tensor: Tensor, largest: int) -> Iterator[Tensor]:
    """The tensor, cut along its first axis into parts of at most so many bytes."""
    if tensor.nbytes <= largest:
        yield tensor
        return
    rows = largest * len(tensor) // tensor.nbytes
    if rows < 1:
        raise StudyError(f"a row of a tensor of the shape {tuple(tensor.shape)} has more than {largest} bytes")
    yield from torch.split(tensor, rows)


def _packed(pieces: list[tuple[str, str, Tensor]], largest: int) -> Iterator[list[tuple[str, str, Tensor]]]:
    """The pieces in their order, cut into groups of at most so many bytes."""
    group, held = list[tuple[str, str, Tensor]](), 0
    for piece in pieces:
        if group and held + piece[2].nbytes > largest:
            yield group
            group, held = [], 0
        group.append(piece)
        held += piece[2].nbytes
    if group:
        yield group


def join(folder: Path, to: Path) -> Path:
    """Put a checkpoint together that `split` wrote to `folder`, in the new folder `to`.

    DataError for a file that is missing or damaged, StudyError where `to` exists; then nothing is written.
    """
    index = _index(folder)
    if to.exists():
        raise StudyError(f"{to} exists already; name a new folder with --to, or remove it")
    tensors = _tensors(folder, index)
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, text in index["files"].items():
        (partial / name).write_text(text, encoding="utf-8")
    for name, parts in tensors.items():
        whole = {tensor: pieces[0] if len(pieces) == 1 else torch.cat(pieces) for tensor, pieces in parts.items()}
        save_file(whole, partial / name, metadata={"format": "pt"})
    partial.rename(to)
    return to


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{folder}: there is no {INDEX}; give the folder that `train` wrote")
    try:
        index: dict[str, Any] = json_of(json.loads(path.read_text(encoding="utf-8")), dict)
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}, this command reads {FORMAT}")
        for name in (*index["shards"], *index["files"], *(piece["file"] for piece in index["pieces"])):
            if Path(name).name != name or name.startswith("."):
                raise ValueError(f"{name!r} is no name of a file")
        return index
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {one_line(error, QUOTED)}") from error


def _tensors(folder: Path, index: Mapping[str, Any]) -> dict[str, dict[str, list[Tensor]]]:
    """File of the checkpoint -> tensor -> its pieces in order."""
    shards = {}
    for name, checksum in index["shards"].items():
        if not (folder / name).is_file():
            raise DataError(f"{folder}: {name} is missing; {INDEX} names {len(index['shards'])} shards")
        if _checksum(folder / name) != checksum:
            raise DataError(f"{folder / name} is damaged: its checksum is not the one in {INDEX}")
        shards[name] = load_file(folder / name)
    made: dict[str, dict[str, list[Tensor]]] = {}
    try:
        for piece in index["pieces"]:
            parts = made.setdefault(piece["file"], {}).setdefault(piece["tensor"], [])
            parts.append(shards[piece["shard"]][piece["key"]])
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / INDEX} is damaged: {one_line(error, QUOTED)}") from error
    return made


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
