"""Values that a model has in one context alone: a thread, or an asynchronous task."""

from __future__ import annotations

import weakref
from contextvars import ContextVar, Token
from typing import Generic, TypeVar

Value = TypeVar("Value")
Pairs = tuple[tuple["weakref.ref[object]", Value], ...]


class PerContext(Generic[Value]):
    """A value of each object, local to the context and gone with the object.

    The pairs are never changed, only replaced: a copy of a context shares them with the original without a race.
    """

    def __init__(self, name: str) -> None:
        self._pairs: ContextVar[Pairs[Value]] = ContextVar(name, default=())

    def get(self, owner: object) -> Value | None:
        """The value that this context has set for `owner`; None where it has set none."""
        return next((value for reference, value in self._pairs.get() if reference() is owner), None)

    def set(self, owner: object, value: Value) -> Token[Pairs[Value]]:
        """Set the value; the token takes it back (`reset`)."""
        others = tuple(pair for pair in self._pairs.get() if pair[0]() not in (None, owner))
        return self._pairs.set((*others, (weakref.ref(owner), value)))

    def reset(self, token: Token[Pairs[Value]]) -> None:
        """Make the context as it was before the `set` that returned `token`."""
        self._pairs.reset(token)
