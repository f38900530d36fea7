"""Rank correlation of a loss with a score across generators that differ in quality.

For each learning rate of the generator in ``LEARNING_RATES`` one training is stopped at the same
image. The discriminators have the same architecture and learning rate, so that their losses have
the same scale. The arguments of an arm include ``column=<name>`` and ``score=<name>``, columns of
``metrics.csv``; ``every=<n>`` trains with every n-th rate only, for a demonstration.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from scipy.stats import spearmanr

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values

ARGUMENTS = ("column", "score", "every")
LEARNING_RATES = (1e-5, 3e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
# Share of the logged rows, counted from the end, whose mean is the loss of a training.
LATE_SHARE = 0.25


def measure(arm: Arm) -> Values:
    """Return ``strength``, the magnitude of Spearman's correlation, and its ``correlation``.

    A loss that follows the quality with a negative sign is as useful as one with a positive sign.
    """
    _, arguments = arm.split_arguments(*ARGUMENTS)
    losses: list[float] = []
    scores: list[float] = []
    for rate in LEARNING_RATES[:: int(arm.number("every", 1))]:
        history = Run(arm.train([*arguments, f"model.lr_g={rate:g}"])).history
        logged = [value for _, value in history[arm.text("column")]]
        late = logged[-max(1, round(LATE_SHARE * len(logged))) :]
        losses.append(sum(late) / len(late))
        scores.append(history[arm.text("score")][-1][1])
    correlation = float(spearmanr(losses, scores).statistic)
    return {
        "strength": abs(correlation),
        "correlation": correlation,
        "loss": losses,
        "score": scores,
    }


def draw(figure: Figure, results: Results) -> None:
    """Plot the score over the loss, one point per training and one panel per arm."""
    figure.set_figheight(2.4 * len(results))
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for axes, (arm, seeds) in zip(panels, results.items(), strict=True):
        for values in seeds:
            axes.plot(values["loss"], values["score"], "o", markersize=4)
        axes.set(title=arm, xlabel="mean loss of the last quarter", ylabel="score", yscale="log")
