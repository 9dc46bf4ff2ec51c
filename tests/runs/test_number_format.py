"""Settings that change what float32 means or how it is added up: refused, or named in the environment."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from searchkit.reduction.device import environment

REASONS = {
    "torch.set_float32_matmul_precision('medium')": "float32 products are computed in bf16",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'": "float32 products are computed in bf16",
    "torch.set_default_dtype(torch.float64)": "set_default_dtype(torch.float64) is in force",
    "torch.set_float32_matmul_precision('highest')": "fine",
}
# each line in a process of its own, as the settings cannot all be taken back; forked, as torch takes seconds to load
CODE = """
import json, os, sys
import torch
from searchkit import StudyError
from searchkit.reduction.device import dtype_of

for line in json.loads(sys.argv[1]):
    if not os.fork():
        exec(line)
        try:
            dtype_of("fp32", torch.device("cpu"))
            print("fine", flush=True)
        except StudyError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""


def test_settings_that_compute_float32_in_less_are_refused() -> None:
    command = [sys.executable, "-c", CODE, json.dumps(list(REASONS))]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for (line, reason), said in zip(REASONS.items(), out.splitlines(), strict=True):
        assert reason in said, line


def test_the_environment_names_settings_of_the_processors_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MKL_CBWR", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    plain = environment(torch.device("cpu"), torch.float32)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert environment(torch.device("cpu"), torch.float32) == {**plain, "ATEN_CPU_CAPABILITY": "avx2"}
