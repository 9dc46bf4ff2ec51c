"""Reader of data sets of the Hugging Face hub, with the `datasets` library, which is imported only on use."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from searchkit._internal.paths import looked_in
from searchkit.errors import DataError
from searchkit.tasks.files import ALIASES, Part

logger = logging.getLogger(__name__)


def read_hub(name: str, subset: str | None, revision: str | None) -> dict[str, list[Part]]:
    """Read the data set: split -> its part. Code of the hub is never run. Raises DataError where that fails."""
    import datasets

    try:
        loaded = datasets.load_dataset(name, subset, revision=revision)
    except Exception as error:  # whatever the network, the cache and the hub raise, the user acts the same way
        raise DataError(
            f"the data set {name!r} could not be loaded from the hub ({type(error).__name__}: {error}). Check the name "
            f"and the connection, or download it and give a folder: a local path starts with '.', '~' "
            f"or '/'{looked_in(Path(name))}"
        ) from error
    known = {split: ALIASES[str(split)] for split in loaded if str(split) in ALIASES}
    if ignored := [str(split) for split in loaded if split not in known]:
        logger.warning("%s: ignoring the splits %s", name, ", ".join(ignored))
    if len(set(known.values())) < len(known):
        raise DataError(f"{name}: two splits mean the same: {', '.join(map(str, known))}; give a local folder instead")
    return {split: [_part(f"{name} [{own}]", split, loaded[own])] for own, split in known.items()}


def _part(name: str, split: str, rows: Any) -> Part:
    features = getattr(rows, "features", None) or {}
    named = {column: tuple(feature.names) for column, feature in features.items() if hasattr(feature, "names")}
    return Part(name, split, rows.to_pandas(), class_names=named)
