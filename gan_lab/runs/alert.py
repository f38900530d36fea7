"""The alert of a run, which the health check writes and reports display."""

from __future__ import annotations

from dataclasses import dataclass

NOT_FINITE_PREFIX = "NaN or Inf in "


@dataclass(frozen=True)
class Alert:
    """An alert of the health check: a line of ``health.csv`` and an entry of ``summary.json``."""

    kind: str
    iteration: int
    images: int
    sentence: str

    @property
    def ends_training(self) -> bool:
        """True if a weight or a recorded value was NaN or Inf, which ends the training."""
        return self.kind == "diverged" and self.sentence.startswith(NOT_FINITE_PREFIX)
