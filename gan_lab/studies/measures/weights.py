"""The weights of a trained critic: how many lie at the largest of their layer, as clipping would have them."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from gan_lab.runs.checkpoints import find_checkpoint, read_checkpoint
from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Results, Values

NEAR = 0.95  # of the largest
BINS = 41


def measure(arm: Arm) -> Values:
    """The share ``at_bound`` of a critic's weights, the score ``fd_digits``, and the histogram over the largest."""
    folder = arm.train(arm.words)
    state = read_checkpoint(find_checkpoint(folder, "last"))["state_dict"]
    kernels = [
        value
        for name, value in state.items()
        if name.startswith("discriminator.") and value.dim() > 1
    ]
    relative = torch.cat([(kernel / kernel.abs().max()).flatten() for kernel in kernels])
    counts = torch.histc(relative, BINS, -1, 1) / len(relative)
    score = Run(folder).scores["fd_digits"].value
    return {
        "at_bound": float((relative.abs() > NEAR).double().mean()),
        "fd_digits": score,
        "histogram": counts.tolist(),
    }


def draw(figure: Figure, results: Results) -> None:
    """The histogram of each arm's first seed."""
    axes = figure.subplots()
    places = [-1 + (2 * i + 1) / BINS for i in range(BINS)]
    for arm, seeds in results.items():
        axes.step(places, seeds[0]["histogram"], where="mid", label=arm)
    axes.set(
        xlabel="weight over the largest of its layer", ylabel="share of the weights", yscale="log"
    )
    axes.legend(frameon=False)
