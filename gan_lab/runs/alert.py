"""The alert of a run, which the health check writes and reports display."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """An alert of the health check: a line of ``health.csv`` and an entry of ``summary.json``."""

    kind: str
    iteration: int
    images: int
    sentence: str
