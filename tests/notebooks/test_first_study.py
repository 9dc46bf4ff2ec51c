"""notebooks/first-study.ipynb runs from top to bottom in a kernel, at smoke size."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = "documents, epochs, evaluations = 100, 1, 8"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::DeprecationWarning")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(ROOT / "notebooks" / "first-study.ipynb", as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = SMALL
    resources = {"metadata": {"path": str(tmp_path)}}
    ran = NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    html = [
        "".join(output["data"].get("text/html", ""))
        for cell in ran.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert any("<strong>study notebook</strong>" in text for text in html)
    assert any("<progress" in text and "search" in text and "8 of 8" in text for text in html)
    assert any("8 evaluations, search split" in text for text in html)
    assert any("8 evaluations, values of the report split" in text for text in html)
    assert any("accuracy_report_low" in text for text in html)
    pictures = [
        output for cell in ran.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
    assert (tmp_path / "runs" / "notebook" / "front.csv").is_file()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
