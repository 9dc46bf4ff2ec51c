"""Energy meters: RAPL's files as the kernel writes them, counters that begin again, and reasons where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from searchkit.evaluate.energy import meter

CPU = torch.device("cpu")


def package(root: Path, number: int, energy_uj: int) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    return folder / "energy_uj"


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 2_000_000), package(tmp_path, 1, 500_000)
    part = tmp_path / "intel-rapl:0:0"  # the cores of package 0, which it contains already
    part.mkdir()
    (part / "energy_uj").write_text("1500000")
    found = meter(CPU, tmp_path)
    assert found.is_there
    assert found.read() == pytest.approx(2.5)
    first.write_text("3000000")
    second.write_text("700000")
    assert found.read() == pytest.approx(3.7)


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    file = package(tmp_path, 0, 999_000_000)
    found = meter(CPU, tmp_path)
    before = found.read()
    file.write_text("4000000")
    assert found.read() - before == pytest.approx(5.0)


def test_without_a_meter_there_is_a_reason(tmp_path: Path) -> None:
    none = meter(CPU, tmp_path)
    assert not none.is_there
    assert none.read() == 0.0
    assert none.why.startswith("absent: ")
    (package(tmp_path, 0, 1)).write_text("no number")
    assert meter(CPU, tmp_path).why.startswith("absent: RAPL cannot be read")
    assert meter(torch.device("cuda", 0)).why  # NVML or the reason
