"""The alert of a run, which the health check writes and every reader of a run folder shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """One finding: a line of ``health.csv`` and an entry of ``summary.json``."""

    kind: str
    iteration: int
    images: int
    sentence: str
