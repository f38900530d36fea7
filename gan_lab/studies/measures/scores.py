"""The scores of a trained run: those that its best checkpoint has on the images of test."""

from __future__ import annotations

import math
from pathlib import Path

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values


def measure(arm: Arm) -> Values:
    """The scores of the arm's training."""
    return of_run(arm.train(arm.words))


def of_run(folder: Path) -> Values:
    """Collect every score; ``log_<score>`` of those above 0, and ``<score>_gain`` over its yardstick."""
    values = {name: score.value for name, score in Run(folder).scores.items()}
    logarithms = {f"log_{name}": math.log(value) for name, value in values.items() if value > 0}
    yardsticks = {
        name: values[f"baseline_{name}"] for name in values if f"baseline_{name}" in values
    }
    return (
        values
        | logarithms
        | {f"{name}_gain": values[name] - yardstick for name, yardstick in yardsticks.items()}
    )
