"""The scores of a run: those of its best checkpoint on the test set."""

from __future__ import annotations

import math
from pathlib import Path

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values


def measure(arm: Arm) -> Values:
    """Return the scores of the arm's training."""
    return collect_scores(arm.train(arm.arguments))


def collect_scores(folder: Path) -> Values:
    """Return every score of a run, its logarithm and its gain over its baseline.

    ``log_<score>`` exists for scores above 0, ``<score>_gain`` for scores with a baseline.
    """
    values = {name: score.value for name, score in Run(folder).scores.items()}
    logarithms = {f"log_{name}": math.log(value) for name, value in values.items() if value > 0}
    gains = {
        f"{name}_gain": value - values[f"baseline_{name}"]
        for name, value in values.items()
        if f"baseline_{name}" in values
    }
    return values | logarithms | gains
