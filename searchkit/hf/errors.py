"""Errors of shipped models: inputs that they cannot read, plans and budgets that they do not have."""

from __future__ import annotations

from searchkit.errors import SearchkitError


class InputError(SearchkitError, ValueError):
    """Error of a batch or an argument that a shipped model cannot take; it says what it takes.

    >>> issubclass(InputError, ValueError)
    True
    """


class BudgetError(SearchkitError, ValueError):
    """Error of a plan or budget that a shipped model does not have; it names those that it has.

    >>> issubclass(BudgetError, ValueError)
    True
    """
