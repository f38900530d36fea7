"""Rank correlation of a logged column with a score over a training, for each seed.

The arguments of an arm include ``column=<name>`` and ``score=<name>``, columns of ``metrics.csv``.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from scipy.stats import spearmanr

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils.errors import UserError

# Arguments of this measure, which are not config keys.
ARGUMENTS = ("column", "score")


def measure(arm: Arm) -> Values:
    """Return Spearman's ``correlation`` over the evaluations.

    Each evaluation is paired with the mean of the column since the previous one.
    """
    _, arguments = arm.split_arguments(*ARGUMENTS)
    history = Run(arm.train(arguments)).history
    for key in ARGUMENTS:
        if arm.text(key) not in history:
            raise UserError(
                f"arm {arm.name}: {key}={arm.text(key)}. metrics.csv has {', '.join(history)}"
            )
    images: list[float] = []
    scores: list[float] = []
    column: list[float] = []
    previous = 0.0
    for seen, score in history[arm.text("score")]:
        since = [value for at, value in history[arm.text("column")] if previous < at <= seen]
        if since:
            images.append(seen)
            scores.append(score)
            column.append(sum(since) / len(since))
        previous = seen
    return {
        "correlation": float(spearmanr(column, scores).statistic),
        "images": images,
        "score": scores,
        "column": column,
    }


def draw(figure: Figure, results: Results) -> None:
    """Plot the score over the column, one point per evaluation and one panel per arm."""
    figure.set_figheight(2.4 * len(results))
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for axes, (arm, seeds) in zip(panels, results.items(), strict=True):
        for seed, values in enumerate(seeds):
            axes.plot(values["column"], values["score"], "o", markersize=4, label=f"seed {seed}")
        axes.set(title=arm, xlabel="logged value", ylabel="score", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
