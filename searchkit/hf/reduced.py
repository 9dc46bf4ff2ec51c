"""What shipped models have in common: the packed pass under a chosen plan, budgets, traces and counts of traffic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from searchkit.errors import DataError
from searchkit.hf.budgets import Limits, choose
from searchkit.hf.context import PerContext
from searchkit.hf.errors import BudgetError, InputError
from searchkit.hf.inputs import Special, pack
from searchkit.hf.members import Members, measured_of
from searchkit.hf.packed import Packed
from searchkit.hf.traffic import Traffic
from searchkit.reduction.cost import Shape
from searchkit.reduction.model import Predicted, untrained_predictors
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.trace import Trace

RUNTIME: Final = "pytorch"  # in the settings of measured latencies
_chosen: Final[PerContext[str]] = PerContext("plan of a model in this context")
_last: Final[PerContext[Callable[[], Trace]]] = PerContext("trace of a model's last call in this context")


class Reduced:
    """Mixin before a stock class: its weights keep their names, predictors stand under `predictors.`.

    A plan is chosen by, the first that is given: the call's `plan=`, `with model.budget(...)` of this thread or task,
    `model.set_budget(...)`, the folder's own.

    >>> import searchkit
    >>> model = searchkit.load("models/reviews")  # doctest: +SKIP
    >>> with model.budget(macs=0.4):  # doctest: +SKIP
    ...     model(**tokenizer("so it goes", return_tensors="pt")).logits
    """

    accepts_loss_kwargs = False  # the loss is a mean: Trainer need not divide
    supports_gradient_checkpointing = False  # its layers are not called

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]  # the stock class
        self.config: Any = config
        notes = config.searchkit or {}
        self.predictors = untrained_predictors(notes.get("predictors", {}), Shape.of_config(config))
        self._packed: Packed | None = None
        self._members: tuple[Any, Members, Special] | None = None
        self._standing: str | None = None
        self._traffic = Traffic()

    @property
    def plans(self) -> Mapping[str, Mapping[str, Any]]:
        """Keys of the shipped plans with what was measured of each (a copy); "unreduced" can always be chosen too."""
        return measured_of(self.config)

    @property
    def traffic(self) -> Traffic:
        """Counter of the tokens that each layer computed in eval mode, for all threads: `read()` and `reset()`."""
        return self._traffic

    @property
    def last_trace(self) -> Trace | None:
        """Tokens that each layer computed, by example, in the last call of this thread or task; None before it."""
        traced = _last.get(self)
        return None if traced is None else traced()

    @property
    def plan(self) -> str:
        """The key of the plan that a call without `plan=` runs here and now."""
        return _chosen.get(self) or self._standing or self._read_members()[1].default

    @contextmanager
    def budget(
        self,
        plan: str | None = None,
        *,
        macs: float | None = None,
        latency_ms: float | None = None,
        setting: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """Run the calls of this block, in this thread or task alone, under the best plan within the limits.

        plan: a key instead of limits; macs: at most this ratio to the unreduced model's; latency_ms: at most, in a
        setting that was measured (`setting` chooses where there are several). Without any, the folder's own plan.
        Blocks nest; a thread that is started inside does not inherit it. Yields the key. Raises BudgetError where no
        plan is within the limits, naming the smallest.
        """
        key = self._choose(plan, Limits(macs, latency_ms, setting))
        token = _chosen.set(self, key)
        try:
            yield key
        finally:
            _chosen.reset(token)

    def set_budget(
        self,
        plan: str | None = None,
        *,
        macs: float | None = None,
        latency_ms: float | None = None,
        setting: Mapping[str, Any] | None = None,
    ) -> str:
        """Set the plan that all threads run from now on where they choose none; arguments and errors as of `budget`.

        `set_budget(None)` is the folder's own plan again. Returns the key.
        """
        limits = Limits(macs, latency_ms, setting)
        key = self._choose(plan, limits)
        self._standing = None if plan is None and limits == Limits() else key
        return key

    def _choose(self, plan: str | None, limits: Limits) -> str:
        members = self._read_members()[1]
        given = limits != Limits()
        if plan is not None and given:
            raise BudgetError("give a plan or limits, not both")
        if given:
            return choose(members, limits, self._here())
        key = members.default if plan is None else plan
        members.plan(key)
        return key

    def _here(self) -> dict[str, Any]:
        """Return the setting of this process, as far as it is known before a call."""
        weight = next(self.parameters())  # type: ignore[attr-defined]
        threads = {"threads": torch.get_num_threads()} if weight.device.type == "cpu" else {}
        dtype = str(weight.dtype).removeprefix("torch.")
        return {"device": weight.device.type, "dtype": dtype, "runtime": RUNTIME, **threads}

    def _read_members(self) -> tuple[Any, Members, Special]:
        """Read plans and special tokens of the config, again where `config.searchkit` was replaced."""
        known, notes = self._members, self.config.searchkit
        if known is None or known[0] is not notes:
            self._members = known = (notes, Members.of_config(self.config), Special.of_config(self.config))
        return known

    def _predict(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        plan: str | None,
        refused: Mapping[str, Any],
    ) -> tuple[Predicted, Tokens]:
        """Run the packed pass. refused: arguments of the stock class that it cannot honour, and their values."""
        _refuse(refused, self.config)
        _, members, special = self._read_members()
        key = self.plan if plan is None else plan
        chosen = members.plan(key)
        packed = self._packed
        if packed is None:  # two threads may both make it, of the same weights
            self._packed = packed = Packed(self)
        marks = members.marks[key]
        tokens = pack(input_ids, attention_mask, token_type_ids, special, limit=packed.limit, marks=marks)
        predicted = packed.predict(tokens, chosen)
        counter = predicted.counter  # without the logits, which hold the graph of a training step
        _last.set(self, functools.cache(counter.trace))
        if not self.training:  # type: ignore[attr-defined]
            self._traffic.add(key, len(tokens.layout.lengths), counter.tokens())
        return predicted, tokens

    # The view refers to modules of this very model: what copies or changes them lets it go.

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def _apply(self, *given: Any, **named: Any) -> Any:
        self._packed = None
        return super()._apply(*given, **named)  # type: ignore[misc]

    def load_state_dict(self, *given: Any, **named: Any) -> Any:
        """Load a state as torch does."""
        self._packed = None
        return super().load_state_dict(*given, **named)  # type: ignore[misc]

    def train(self, mode: bool = True) -> Any:
        """Set the mode as torch does."""
        if mode != self.training:  # type: ignore[attr-defined]
            self._packed = None
        return super().train(mode)  # type: ignore[misc]

    def _replicate_for_data_parallel(self) -> Any:
        replica = super()._replicate_for_data_parallel()  # type: ignore[misc]
        replica._packed, replica._standing = None, self.plan  # its thread does not see this context
        return replica

    def _init_weights(self, module: Any) -> None:
        """Initialise as the stock class does; predictors come trained or not at all."""
        predictors = getattr(self, "predictors", None)  # the stock class initialises before there are any
        if predictors is None or not any(module is part for part in predictors.modules()):
            super()._init_weights(module)  # type: ignore[misc]
        elif not all(getattr(weight, "_is_hf_initialized", False) for weight in module.parameters(recurse=False)):
            names = ", ".join(predictors)
            raise DataError(f"{self.config.name_or_path}: the file of weights lacks the trained predictors {names}")


def _refuse(given: Mapping[str, Any], config: Any) -> None:
    for name, value in given.items():
        asked = value if name not in ("output_attentions", "output_hidden_states") else value or getattr(config, name)
        if asked is not None and asked is not False:
            raise InputError(
                f"{name} is not available: the reduced pass reads input_ids, attention_mask and token_type_ids, and "
                "gives logits; model.last_trace tells the tokens of each layer"
            )
