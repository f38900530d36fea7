"""Distribution of a trained critic's weights: the share near the largest weight of the layer."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from gan_lab.runs.checkpoints import find_checkpoint, read_checkpoint
from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils.score_names import list_trivial_scores

# A weight above this share of its layer's largest counts as at the bound.
NEAR_BOUND = 0.95
SCORE = "fd_digits"
BINS = 41


def measure(arm: Arm) -> Values:
    """Return the share ``at_bound`` of a critic's weights, distances, and the histogram."""
    folder = arm.train(arm.arguments)
    state = read_checkpoint(find_checkpoint(folder, "last"))["state_dict"]
    kernels = [
        value
        for name, value in state.items()
        if name.startswith("discriminator.") and value.dim() > 1
    ]
    relative = torch.cat([(kernel / kernel.abs().max()).flatten() for kernel in kernels])
    counts = torch.histc(relative, BINS, -1, 1) / len(relative)
    scores = Run(folder).scores
    return {
        "at_bound": float((relative.abs() > NEAR_BOUND).double().mean()),
        **{name: scores[name].value for name in (SCORE, *list_trivial_scores(SCORE))},
        "histogram": counts.tolist(),
    }


def draw(figure: Figure, results: Results) -> None:
    """Plot the histogram of each arm's first seed."""
    axes = figure.subplots()
    centers = [-1 + (2 * i + 1) / BINS for i in range(BINS)]
    for arm, seeds in results.items():
        axes.step(centers, seeds[0]["histogram"], where="mid", label=arm)
    axes.set(
        xlabel="weight over the largest of its layer", ylabel="share of the weights", yscale="log"
    )
    axes.legend(frameon=False)
