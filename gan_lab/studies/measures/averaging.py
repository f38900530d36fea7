"""EMA weights compared with the raw weights of the same iteration.

The argument ``score=<name>`` of an arm is a distance.
"""

from __future__ import annotations

import math

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values

ARGUMENTS = ("score",)


def measure(arm: Arm) -> Values:
    """Return ``log_ratio`` of the raw weights' distance to the EMA weights', and both."""
    _, arguments = arm.split_arguments(*ARGUMENTS)
    run = Run(arm.train(arguments))
    raw, ema = (run.scores_of(weights)[arm.text("score")].value for weights in ("raw", "last"))
    return {"log_ratio": math.log(raw / ema), "raw": raw, "ema": ema}
