"""Predictions of measured models on a split, kept so that a model which is loaded elsewhere can be compared with them.

One parquet file: a row for each model and unit (example, or question of several windows), with the model's key, the
unit's row in the table of the split, the outputs, and the number format; everything else stands in its metadata, the
work of each model's layers too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import json_of
from searchkit._internal.files import replace_whole
from searchkit.errors import StoreError, StudyError, TrialError, unknown
from searchkit.evaluate.layers import LayerCosts
from searchkit.records import Scalar

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from searchkit.evaluate.subject import SupernetSubject

FORMAT: Final = 1  # version of the file's format; readers refuse others
_ABOUT: Final = b"searchkit"  # key of the file's metadata

Outputs = Mapping[str, NDArray[Any]]  # column -> (U,) values


@dataclass(frozen=True, eq=False)
class Predicted:
    """Outputs of one model on every unit of a split, and the environment that made them.

    outputs: of classes `logit_0`, `logit_1`, ... (float32); of a number `value` (float32); of answers `start` and
    `end`, the first character in the context and the one after the last, -1 for the empty answer, with its `score`,
    the sum of two logits. environment: device, number format, threads, versions and `isa`, the instruction set that
    torch uses on the processor. layers: the work of each layer; None in files from before it was kept
    """

    outputs: Outputs
    environment: Mapping[str, Scalar]
    layers: LayerCosts | None = None

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    def same(self, other: Predicted) -> bool:
        """Return whether all outputs are the same to the last bit."""
        return self.outputs.keys() == other.outputs.keys() and all(
            values.dtype == other.outputs[name].dtype and values.tobytes() == other.outputs[name].tobytes()
            for name, values in self.outputs.items()
        )


def predicted(subject: SupernetSubject) -> Predicted | None:
    """Outputs of a subject on its split, from the passes that it has; None for a head of one's own on every token."""
    outputs = _outputs(subject)
    environment = {**subject.bench.environment, "isa": instruction_set()}
    return None if outputs is None else Predicted(outputs, environment, LayerCosts.of(subject))


def _outputs(subject: SupernetSubject) -> Outputs | None:
    if subject.bench.model.head.name == "question_answering":
        if subject.data.answers is None:
            return None
        try:
            spans = subject.spans
        except TrialError:  # a logit is not finite: there is no best answer
            nowhere = np.full(int(subject.units.max()) + 1, -1, dtype=np.int32)
            return {"start": nowhere, "end": nowhere, "score": np.full(len(nowhere), np.nan)}
        return {"start": spans.begins.astype(np.int32), "end": spans.ends.astype(np.int32), "score": spans.scores}
    logits: NDArray[np.float32] = subject.raw_passes.logits.numpy()  # (N, C)
    if len(logits) != len(subject.lengths):
        return None
    if subject.bench.model.head.name == "regression":
        return {"value": logits[:, 0].copy()}
    return {f"logit_{number}": logits[:, number].copy() for number in range(logits.shape[1])}


def instruction_set() -> str:
    """Instruction set that torch uses on this processor, such as AVX2 or AVX512."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of several models on one split.

    study: fingerprint; labels: names of the model's outputs; members: by the key of the candidate

    >>> import numpy as np
    >>> from searchkit.evaluate.predictions import Predicted, Predictions
    >>> one = Predicted({"value": np.zeros(3, np.float32)}, {"dtype": "fp32"})
    >>> Predictions("0f", "report", "regression", ("stars",), {"a1": one}).frame("a1").columns.tolist()
    ['key', 'example', 'value', 'dtype']
    """

    study: str
    split: str
    head: str
    labels: tuple[str, ...]
    members: Mapping[str, Predicted] = field(default_factory=dict)

    def of(self, key: str) -> Predicted:
        """Predictions of one model; StudyError for a key that is not there."""
        if key not in self.members:
            raise StudyError(f"predictions: {unknown('key', key, self.members)}")
        return self.members[key]

    def frame(self, key: str) -> pd.DataFrame:
        """Table of one model, a row for each unit: key, example, the outputs, dtype; StudyError for an unknown key."""
        frame: pd.DataFrame = _table({key: self.of(key)}).drop_columns(["environment"]).to_pandas()
        return frame.assign(**{name: frame[name].astype("str") for name in ("key", "dtype")})

    def write(self, path: Path) -> None:
        """Write the file whole; StoreError where that fails."""
        import pyarrow.parquet as pq

        numbered = _environments(self.members.values())
        about = {"format": FORMAT, "study": self.study, "split": self.split, "head": self.head, "labels": self.labels}
        dtypes = list(dict.fromkeys(str(environment.get("dtype")) for environment in numbered))
        layers = {key: member.layers.to_json() for key, member in self.members.items() if member.layers}
        about |= {"dtype": dtypes, "environments": [dict(each) for each in numbered], "layers": layers}
        text = json.dumps(about)
        buffer = io.BytesIO()
        pq.write_table(_table(self.members).replace_schema_metadata({_ABOUT: text}), buffer, compression="zstd")
        replace_whole(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file that `write` wrote. StudyError where there is none, StoreError where it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _damage_told(path), path.open("rb") as file:
            return cls._parsed(pq.read_table(pa.BufferReader(file.read())))

    @classmethod
    def _parsed(cls, table: pa.Table) -> Predictions:
        about = _about(table.schema)
        environments = [json_of(environment, dict) for environment in json_of(about["environments"], list)]
        names = [name for name in table.column_names if name not in ("key", "example", "dtype", "environment")]
        layers = _layers(about)
        columns = {name: table.column(name).to_numpy() for name in (*names, "example", "environment")}
        keys = np.array(table.column("key").to_pylist(), dtype=object)
        starts = np.flatnonzero(columns["example"] == 0)
        members = {}
        for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True):
            rows = slice(int(start), int(stop))
            if set(keys[rows]) != {keys[start]} or (np.diff(columns["example"][rows]) != 1).any() or not names:
                raise ValueError(f"the rows of {keys[start]} are not whole")
            environment, key = environments[int(columns["environment"][start])], str(keys[start])
            members[key] = Predicted({name: columns[name][rows] for name in names}, environment, layers.get(key))
        study, split, head = (json_of(about[name], str) for name in ("study", "split", "head"))
        labels = tuple(json_of(label, str) for label in json_of(about["labels"], list))
        return cls(study, split, head, labels, members)


def kept_layers(path: Path, study: str) -> Mapping[str, LayerCosts]:
    """Work of each layer by the key of the model, from a file that `write` wrote for the study of this fingerprint.

    Only the metadata is read. Empty without a file, or where it is another study's; StoreError where it is damaged.
    """
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    with _damage_told(path):
        about = _about(pq.read_schema(path))
        return _layers(about) if about["study"] == study else {}


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what reading raises into errors that name the file."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise StudyError(f"{path}: no predictions are kept; the run's next start makes them") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, pa.ArrowException) as error:
        raise StoreError(f"{path}: not written by searchkit, or damaged: {error or type(error).__name__}") from error


def _about(schema: pa.Schema) -> dict[str, Any]:
    """What the metadata of a file says of all members."""
    about: dict[str, Any] = json_of(json.loads((schema.metadata or {})[_ABOUT]), dict)
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']!r}, this searchkit reads {FORMAT}")
    return about


def _layers(about: Mapping[str, Any]) -> dict[str, LayerCosts]:
    """Work of layers by key; none in files from before it was kept."""
    return {key: LayerCosts.from_json(kept) for key, kept in json_of(about.get("layers", {}), dict).items()}


def _environments(members: Iterable[Predicted]) -> list[Mapping[str, Scalar]]:
    distinct: list[Mapping[str, Scalar]] = []
    for member in members:
        if member.environment not in distinct:
            distinct.append(member.environment)
    return distinct


def _table(members: Mapping[str, Predicted]) -> pa.Table:
    """Rows of the members, one after another. The index of their environment stands at each row."""
    import pyarrow as pa

    numbered, sizes = _environments(members.values()), [len(member) for member in members.values()]
    dtypes = [str(member.environment.get("dtype")) for member in members.values()]
    places = [numbered.index(member.environment) for member in members.values()]
    names = list(dict.fromkeys(name for member in members.values() for name in member.outputs))
    columns = {
        "key": _repeated(list(members), sizes),
        "example": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes] or [np.zeros(0, np.int32)]),
        **{name: np.concatenate([member.outputs[name] for member in members.values()]) for name in names},
        "dtype": _repeated(dtypes, sizes),
        "environment": np.repeat(np.array(places, dtype=np.int32), sizes),
    }
    return pa.table(columns)


def _repeated(texts: Sequence[str], sizes: Sequence[int]) -> pa.Array:
    """Each text as often as its size says, dictionary-coded."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(texts), dtype=np.int32), sizes), pa.array(texts, pa.string())
    )
