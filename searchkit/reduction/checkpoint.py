"""Reading of checkpoints: configs, and stock models with a report of the weights that are new or unread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from searchkit._internal.paths import looked_in
from searchkit.errors import QUOTED, DataError, one_line
from searchkit.reduction.families import family_of

CONVERT: Final = (
    "no safetensors weights (only these are read, never pickles); convert the checkpoint with transformers: "
    "from_pretrained(...), then save_pretrained(folder)"
)
LISTED: Final = 4  # names of weights in a message


@dataclass(frozen=True)
class Weights:
    """Names of weights in which a file and a stock model differ.

    new: initialised at random, since the file lacks them or has them in another shape; unread: only the file has them;
    encoder_unread: those of them that belong to the encoder
    """

    new: tuple[str, ...]
    unread: tuple[str, ...]
    encoder_unread: tuple[str, ...]

    def check_complete(self, source: str, remedy: str = "") -> None:
        """Raise DataError if a weight that the pass reads is new, or one of the encoder's is not read."""
        if self.new:
            raise DataError(f"{source}: the file of weights lacks {listed(self.new)}{remedy}")
        if self.encoder_unread:
            raise DataError(
                f"{source}: the config has no place for weights of the file: {listed(self.encoder_unread)}{remedy}"
            )


def listed(names: Iterable[str]) -> str:
    """List the first names, and their number."""
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more


def load_config(source: str) -> Any:
    """The transformers config of a folder or hub name, of a supported family; DataError says what is wrong."""
    from transformers import AutoConfig

    path = Path(source).expanduser()
    if not path.exists() and source.startswith((".", "/", "~")):
        raise DataError(f"{source}: there is no such model folder{looked_in(path)}")
    if (path / "adapter_config.json").is_file():
        raise DataError(f"{source}: an adapter beside its base model is not supported; merge them and save the result")
    if path.is_file() or (path.is_dir() and not (path / "config.json").is_file()):
        raise DataError(f"{source}: not a Hugging Face model folder: it has no config.json")
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise DataError(f"{source}: {CONVERT}")
    _refuse_shards_elsewhere(path)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # a config of sizes that are none, of another form, of another kind of file
        hint = "" if path.is_dir() else "; without network access give a local folder"
        raise DataError(f"{source}: cannot read the model's config: {one_line(error, QUOTED)}{hint}") from error
    family_of(config, source)
    return config


def _refuse_shards_elsewhere(folder: Path) -> None:
    """Refuse an index that leads outside the folder or to a pickle: weights are the folder's own safetensors files."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
        odd = [name for name in shards if Path(name).name != name or not name.endswith(".safetensors")]
    except Exception as error:
        raise DataError(f"{index}: not an index of safetensors files: {one_line(error, QUOTED)}") from error
    if odd:
        raise DataError(f"{index}: weights are safetensors files beside it, got {min(odd)!r}")


def read_stock(source: str, config: Any, auto_class: str, *, new_outputs: bool = False) -> tuple[Any, Weights]:
    """The stock model in float32, from safetensors only, without remote code.

    `new_outputs`: the config asks for another number of outputs than the checkpoint has. Raises DataError for an
    encoder that is incomplete, weights of other shapes, and weights that are not finite.
    """
    import transformers

    with quiet_transformers():
        try:
            stock, report = getattr(transformers, auto_class).from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # named below
                output_loading_info=True,
            )
        except Exception as error:  # whatever a config or a file of weights makes the libraries raise
            raise _unreadable(source, error) from error
    encoder = f"{stock.base_model_prefix}."
    head = {name for name in stock.state_dict() if not name.startswith(encoder) or name.startswith(f"{encoder}pooler")}
    reshaped = {name: (tuple(given), tuple(required)) for name, given, required in report["mismatched_keys"]}
    _refuse_other_shapes(source, {name: pair for name, pair in reshaped.items() if not (new_outputs and name in head)})
    _refuse_new_encoder(source, set(report["missing_keys"]) - head)
    unread = tuple(sorted(report["unexpected_keys"]))
    kept = tuple(name for name in unread if name.startswith(encoder) and not name.startswith(f"{encoder}pooler"))
    _refuse_not_finite(source, stock)
    return stock, Weights(tuple(sorted({*report["missing_keys"], *reshaped})), unread, kept)


def _unreadable(source: str, error: Exception) -> DataError:
    if "use_safetensors" in str(error):
        return DataError(f"{source}: {CONVERT}")
    damaged = type(error).__module__.startswith("safetensors")
    reason = "the safetensors file is damaged" if damaged else "cannot load the weights"
    return DataError(f"{source}: {reason}: {one_line(error, QUOTED)}")


def _refuse_other_shapes(source: str, reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    for name, (given, required) in sorted(reshaped.items()):
        more = f" ({len(reshaped)} weights differ)" if len(reshaped) > 1 else ""
        raise DataError(
            f"{source}: {name} has the shape {given} in the file of weights, the config says {required}{more}"
        )


def _refuse_new_encoder(source: str, lacking: set[str]) -> None:
    """Refuse a file that lacks encoder weights, which would be noise; a new head, pooler included, is trained."""
    if lacking:
        raise DataError(
            f"{source}: the file of weights lacks {len(lacking)} of the encoder's, such as {min(lacking)!r}"
        )


def _refuse_not_finite(source: str, stock: Any) -> None:
    odd = [name for name, weight in stock.named_parameters() if not torch.isfinite(weight).all()]
    if odd:
        raise DataError(f"{source}: weights of the file are not finite: {listed(odd)}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence progress bars and 'newly initialised' tables of transformers: searchkit reports the same itself."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
