"""Settings that change what float32 means or how it is added up: refused, or named in the environment."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from searchkit.reduction.device import environment


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("torch.set_float32_matmul_precision('medium')", "float32 products are computed in bf16"),
        ("torch.backends.mkldnn.matmul.fp32_precision = 'bf16'", "float32 products are computed in bf16"),
        ("torch.set_default_dtype(torch.float64)", r"set_default_dtype(torch.float64) is in force"),
        ("torch.set_float32_matmul_precision('highest')", "fine"),
    ],
)
def test_float32_that_is_none_is_refused(line: str, reason: str) -> None:
    """In a process of its own, as the settings cannot all be taken back."""
    code = f"""
import torch
from searchkit import StudyError
from searchkit.reduction.device import dtype_of
{line}
try:
    dtype_of("fp32", torch.device("cpu"))
    print("fine")
except StudyError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert reason in out


def test_the_environment_names_settings_of_the_processors_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MKL_CBWR", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    plain = environment(torch.device("cpu"), torch.float32)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert environment(torch.device("cpu"), torch.float32) == {**plain, "ATEN_CPU_CAPABILITY": "avx2"}
