"""Contract suites of `searchkit.testing` over everything that searchkit brings along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def suites(contract: type, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, type]:
    """A test class per case, whose attributes are given, for the names of a test module."""
    names = {name: "Test" + re.sub(r"\W+", "_", name.title()) for name in cases}
    return {names[name]: type(names[name], (contract,), dict(given)) for name, given in cases.items()}
