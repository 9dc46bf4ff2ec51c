"""A search without any model, as the contract of evaluators has it."""

from __future__ import annotations

from searchkit.testing.formula import COST, OBJECTIVES, QUALITY, SPACE, FormulaBench, FormulaWorkbench, Point, asks

__all__ = ["COST", "OBJECTIVES", "QUALITY", "SPACE", "FormulaBench", "FormulaWorkbench", "Point", "asks"]
