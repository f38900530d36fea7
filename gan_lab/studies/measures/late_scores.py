"""A score over a training: its mean over all evaluations and over those of the second half.

The argument ``score=<name>`` of an arm is a column of ``metrics.csv``.
"""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils.errors import UserError

ARGUMENTS = ("score",)


def measure(arm: Arm) -> Values:
    """Return ``late_mean``, over the second half, and ``mean_log`` of a positive score."""
    _, arguments = arm.split_arguments(*ARGUMENTS)
    history = Run(arm.train(arguments)).history
    name = arm.text("score")
    if name not in history:
        raise UserError(f"arm {arm.name}: score={name}. metrics.csv has {', '.join(history)}")
    points = history[name]
    scores = [score for _, score in points]
    late = scores[len(scores) // 2 :]
    values: Values = {
        "late_mean": sum(late) / len(late),
        "images": [images for images, _ in points],
        "score": scores,
    }
    if min(scores) > 0:
        values["mean_log"] = sum(map(math.log, scores)) / len(scores)
    return values


def draw(figure: Figure, results: Results) -> None:
    """Plot the score over the images, one line per seed."""
    axes = figure.subplots()
    for number, (arm, seeds) in enumerate(results.items()):
        for values in seeds:
            label = arm if values is seeds[0] else None
            axes.plot(values["images"], values["score"], color=f"C{number}", label=label)
    axes.set(xlabel="images", ylabel="score")
    axes.legend(frameon=False)
