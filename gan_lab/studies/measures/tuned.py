"""The best of several random settings: every arm gets the same tuning budget.

Source: Lucic et al. 2018 (arXiv 1711.10337), who compare losses by the best of their
random settings. The arms of one seed try the same ``tries=<n>`` settings of the learning rates and
of Adam's first decay rate.
"""

from __future__ import annotations

import math
import random
from statistics import stdev

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils.score_names import list_trivial_scores

ARGUMENTS = ("tries",)
# both learning rates are drawn from this interval, uniformly on a logarithmic scale
LEARNING_RATES = (1e-4, 2e-3)
FIRST_DECAY_RATES = (0.0, 0.5, 0.9)


def measure(arm: Arm) -> Values:
    """Return the test score of the setting that validation prefers, under the headline's name.

    The headline is a distance; those of trivial generators are returned too. ``spread`` is the
    standard deviation of the logarithm of the validation scores, and ``validation`` has all of
    them.
    """
    _, arguments = arm.split_arguments(*ARGUMENTS)
    runs = [
        Run(arm.train([*arguments, *setting]))
        for setting in draw_settings(arm.seed, int(arm.number("tries")))
    ]
    headline = runs[0].headline
    assert headline is not None
    validation = [min(score for _, score in run.history[headline]) for run in runs]
    best = runs[validation.index(min(validation))]
    shown = (headline, *list_trivial_scores(headline))
    return {
        **{name: best.scores[name].value for name in shown if name in best.scores},
        "spread": stdev(map(math.log, validation)),
        "validation": validation,
    }


def draw_settings(seed: int, count: int) -> list[list[str]]:
    """Draw settings of both learning rates and the first decay rate, as overrides."""
    generator = random.Random(seed)
    low, high = map(math.log, LEARNING_RATES)
    settings = []
    for _ in range(count):
        lr_d, lr_g = (math.exp(generator.uniform(low, high)) for _ in range(2))
        beta = generator.choice(FIRST_DECAY_RATES)
        settings.append(
            [f"model.lr_d={lr_d:.2g}", f"model.lr_g={lr_g:.2g}", f"model.betas=[{beta},0.999]"]
        )
    return settings


def draw(figure: Figure, results: Results) -> None:
    """Plot the validation score of every setting, one line per seed, sorted."""
    axes = figure.subplots()
    for number, (arm, seeds) in enumerate(results.items()):
        for values in seeds:
            scores = sorted(values["validation"])
            label = arm if values is seeds[0] else None
            axes.plot(range(1, len(scores) + 1), scores, "o-", color=f"C{number}", label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="rank of the setting", ylabel="validation score", yscale="log")
    axes.legend(frameon=False)
