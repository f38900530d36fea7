"""Scores of a training, and the CPU seconds that it took."""

from __future__ import annotations

import os

from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.scores import collect_scores


def measure(arm: Arm) -> Values:
    """Return the scores of the arm's training, and ``cpu_seconds`` of its process.

    They include its start, evaluations and pages. Of a training that was interrupted they are those
    since its last start.
    """
    before = _read_cpu_seconds()
    folder = arm.train(arm.arguments)
    return collect_scores(folder) | {"cpu_seconds": _read_cpu_seconds() - before}


def _read_cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
