"""docs/hugging-face.md does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from searchkit.tasks import word_tokenizer
from tests.hf.shipped import shipped
from tests.reduction.models import classifier

PAGE = Path(__file__).parents[2] / "docs" / "hugging-face.md"


def test_the_page_runs_as_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "reviews"
    shipped(classifier("bert")).save_pretrained(folder)
    word_tokenizer(["a", "fine", "film", "no"]).save_pretrained(folder)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(PAGE.parents[1])}
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("half ['far', 'few', 'half']\n")
    assert "few [[5, " in ran.stdout  # [CLS] a fine film [SEP]
    assert "half {'accuracy': {'goal': 'max'" in ran.stdout
    assert len(blocks) == 6
    assert (tmp_path / "tuned" / "model" / "model.safetensors").is_file()
