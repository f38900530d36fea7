"""Tests of child processes: their shares of the cores, in studies and sweeps too."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lab.studies import engine
from gan_lab.sweeps.worker import Worker
from gan_lab.utils import process


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize(("processes", "threads"), [(2, "4"), (3, "2"), (20, "1")])
def test_share_cores_divides_the_cores(processes: int, threads: str) -> None:
    assert process.share_cores(processes) == {"OMP_NUM_THREADS": threads}


def test_share_cores_keeps_the_threads_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process has all cores, as torch does without the variable."""
    assert process.share_cores(1) == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert process.share_cores(2) == {}


@pytest.mark.parametrize(("slots", "threads"), [(1, None), (2, "4")])
def test_trials_of_a_sweep_share_the_cores(
    slots: int, threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[Any] = []
    monkeypatch.setattr(process, "start", lambda *arguments: environments.append(arguments[2]))
    sweep: Any = SimpleNamespace(experiment="ring", trial_command=lambda *_: ["true"])
    worker = Worker(sweep, SimpleNamespace(), tmp_path, [])  # type: ignore[arg-type]
    worker._slots = slots
    worker._start_training(SimpleNamespace(number=0, values={}))  # type: ignore[arg-type]
    assert environments[0].get("OMP_NUM_THREADS") == threads


def test_workers_of_a_study_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that starts the others too, whose trainings inherit its environment."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    others = SimpleNamespace(terminate=lambda: None, wait=lambda: 0)
    monkeypatch.setattr(process, "start", lambda *_, **__: others)
    with engine.start_workers(["true"], workers=2):
        assert os.environ["OMP_NUM_THREADS"] == "4"
