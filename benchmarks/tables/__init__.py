"""Complete tables of real search spaces: every candidate measured once, so that engines are compared in seconds."""

from __future__ import annotations

from benchmarks.tables.table import FOLDER, Table, TableEvaluator

__all__ = ["FOLDER", "Table", "TableEvaluator"]
