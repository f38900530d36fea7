"""The spin count of OpenMP's threads follows the load of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan_lab.utils import openmp

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of four cores, a process of two threads, and its file of the load."""
    monkeypatch.setattr(openmp.os, "cpu_count", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(openmp, "INTERVAL_S", 0)
    monkeypatch.setattr(openmp, "LOAD", tmp_path / "loadavg")
    return tmp_path / "loadavg"


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        (1, openmp.IDLE_SPIN_COUNT),  # this process alone
        (3, openmp.IDLE_SPIN_COUNT),  # a core for each of its threads
        (4, openmp.BUSY_SPIN_COUNT),
        (40, openmp.BUSY_SPIN_COUNT),
    ],
)
def test_threads_wait_actively_only_on_idle_cores(load: Path, running: int, expected: int) -> None:
    load.write_text(f"9.00 9.00 9.00 {running}/812 4711\n")
    assert openmp.choose_spin_count() == expected


def test_short_burst_of_other_work_is_no_load(load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([0, 0, 3])
    monkeypatch.setattr(openmp, "count_idle_cores", lambda: next(found))
    assert openmp.choose_spin_count() == openmp.IDLE_SPIN_COUNT


def test_unknown_load_counts_as_idle(load: Path) -> None:
    assert not load.exists()
    assert openmp.choose_spin_count() == openmp.IDLE_SPIN_COUNT


@pytest.mark.parametrize(("variables", "expected"), [({"GOMP_SPINCOUNT": "77"}, "77"), ({}, None)])
def test_command_line_keeps_the_spin_count_of_the_user(
    variables: dict[str, str], expected: str | None
) -> None:
    """A library leaves the environment of its user alone, the command line completes it."""
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    code = "import os, gan_lab.cli; print(os.environ['GOMP_SPINCOUNT'])"
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    allowed = [expected] if expected else [str(openmp.IDLE_SPIN_COUNT), str(openmp.BUSY_SPIN_COUNT)]
    assert finished.stdout.strip() in allowed
