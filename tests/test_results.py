"""Results of benchmarks: rows that were not measured again are kept, each with its date."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.result import earlier


def test_rows_that_are_not_measured_again_are_kept_with_their_date(tmp_path: Path) -> None:
    rows = [{"task": "a", "value": 1}, {"task": "b", "value": 2, "date": "2026-01-01"}, {"task": "c", "value": 3}]
    record = {"figures": {"rows": rows}, "conditions": {"date": "2026-02-02"}}
    (tmp_path / "name.json").write_text(json.dumps(record))
    assert earlier("name", [{"task": "c", "value": 4}], ["task"], tmp_path) == [
        {"task": "a", "value": 1, "date": "2026-02-02"},
        {"task": "b", "value": 2, "date": "2026-01-01"},
    ]
    assert earlier("other", [], ["task"], tmp_path) == []
