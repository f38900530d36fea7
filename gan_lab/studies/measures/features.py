"""Linear probe of a discriminator's features, compared with an untrained network and raw pixels.

An arm may have the argument ``most=<labels>``, which ends the curve there.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from gan_lab.inference.linear_probe import probe
from gan_lab.studies.measures import Arm, Results, Values

# Argument of this measure, which is not a config key.
ARGUMENTS = ("most",)
LABELS = (50, 100, 300, 1000)
KINDS = {"trained": "discriminator", "untrained": "untrained discriminator", "pixels": "pixels"}


def measure(arm: Arm) -> Values:
    """Return the test accuracy by kind of features: with 100 labels, and a curve over LABELS."""
    _, arguments = arm.split_arguments(*ARGUMENTS)
    max_labels = arm.number("most", default=LABELS[-1])
    folder = arm.train(arguments)
    found = [
        probe(folder, labels, seed=arm.seed)["accuracy"]
        for labels in LABELS
        if labels <= max_labels
    ]
    curves = {kind: [accuracy[name] for accuracy in found] for kind, name in KINDS.items()}
    at_100 = {kind: curve[LABELS.index(100)] for kind, curve in curves.items()}
    return at_100 | {
        "over_pixels": at_100["trained"] - at_100["pixels"],
        "over_untrained": at_100["trained"] - at_100["untrained"],
        **{f"{kind}_curve": curve for kind, curve in curves.items()},
    }


def draw(figure: Figure, results: Results) -> None:
    """Plot the accuracy over the number of labels, one line per seed."""
    axes = figure.subplots()
    (seeds,) = results.values()
    for number, kind in enumerate(KINDS):
        for values in seeds:
            label = kind if values is seeds[0] else None
            curve = values[f"{kind}_curve"]
            axes.plot(
                LABELS[: len(curve)], curve, "o-", color=f"C{number}", markersize=3, label=label
            )
    axes.set(
        xscale="log", xlabel="labels", ylabel="held-out accuracy", xticks=LABELS, xticklabels=LABELS
    )
    axes.minorticks_off()
    axes.legend(frameon=False)
