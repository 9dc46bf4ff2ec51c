"""`searchkit.load`: a shipped model from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import searchkit.hf  # registers the classes  # noqa: F401
from searchkit.errors import DataError
from searchkit.reduction.checkpoint import load_config, read_stock
from searchkit.reduction.families import PREFIX
from searchkit.reduction.heads import head_of


def load(source: str | Path) -> Any:
    """The model of a folder (or hub name) that `searchkit ship` wrote, in float32 and eval mode, ready to predict.

    It is a transformers model, so `.to("cuda")`, `save_pretrained` and pipelines work; `from_pretrained` of
    `AutoModelForSequenceClassification` and `AutoModelForQuestionAnswering` gives the same after `import searchkit.hf`.
    Raises DataError, in one line, for whatever is no such folder. Only safetensors are read, no code is.

    >>> import tempfile
    >>> import searchkit
    >>> from searchkit.hf.convert import shipped_model
    >>> from searchkit.testing.models import bert
    >>> folder = tempfile.mkdtemp()
    >>> shipped_model(bert()).save_pretrained(folder)
    >>> searchkit.load(folder).plan
    'unreduced'
    """
    name = str(source)
    config = load_config(name)
    if not config.model_type.startswith(PREFIX):
        raise DataError(
            f"{name}: a {config.model_type} model without plans, not one that searchkit shipped; load it with "
            "transformers"
        )
    head = head_of(config, next(iter(config.architectures or ()), ""))
    model, weights = read_stock(name, config, head.auto_class)
    weights.check_complete(name)
    model.set_budget(None)  # reads the plans
    return model
