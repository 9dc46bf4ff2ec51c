"""Matching of a checkpoint's classes with the data's, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchkit.errors import DataError


def order_of(
    checkpoint: Sequence[str], data: Sequence[str], label_map: Mapping[str, str | int] | None = None
) -> tuple[int, ...] | None:
    """Output of the checkpoint for each of the data's classes; None where names do not match one to one.

    Case and blanks do not matter. `label_map` (checkpoint's name -> data's name) decides where it is given; DataError
    unless it maps one to one.

    >>> order_of(("POSITIVE", "NEGATIVE"), ("negative", "positive"))
    (1, 0)
    >>> order_of(("LABEL_0", "LABEL_1"), ("negative", "positive")) is None
    True
    """
    if label_map is not None:
        return _mapped(checkpoint, data, {name: str(label) for name, label in label_map.items()})
    for key in (str, plain):
        names, wanted = [key(name) for name in checkpoint], [key(name) for name in data]
        if len(set(names)) == len(names) and len(set(wanted)) == len(wanted) and set(names) == set(wanted):
            return tuple(names.index(name) for name in wanted)
    return None


def suggestion(checkpoint: Sequence[str], data: Sequence[str]) -> str:
    """`label_map` to copy, in the order of the lists: an example of the form, not a guess at the right one."""
    pairs = ", ".join(f"{name!r}: {label!r}" for name, label in zip(checkpoint, data, strict=False))
    return f"give Supernet(label_map={{{pairs}}}) if that is what they mean"


def plain(name: str) -> str:
    """The name without capital letters and needless blanks, by which names are compared.

    >>> plain(" Very  GOOD")
    'very good'
    """
    return " ".join(name.split()).casefold()


def _mapped(checkpoint: Sequence[str], data: Sequence[str], label_map: Mapping[str, str]) -> tuple[int, ...]:
    if sorted(label_map) != sorted(checkpoint) or sorted(label_map.values()) != sorted(data):
        raise DataError(
            f"label_map gives each of the checkpoint's labels {list(checkpoint)} one of the data's {list(data)}, "
            f"got {dict(label_map)}"
        )
    by_label = {label: name for name, label in label_map.items()}
    return tuple(checkpoint.index(by_label[label]) for label in data)
