"""Interpolation between samples of digits: in the latent space and in pixel space."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from gan_lab.images import to_uint8
from gan_lab.inference.sampling import load_generator
from gan_lab.metrics.extractors import load
from gan_lab.studies.measures import Arm, Results, Values

WALKS, STEPS = 200, 9


def measure(arm: Arm) -> Values:
    """Return the digit classifier's confidence halfway along both paths, and the latent order.

    A confidence is the mean largest probability halfway, relative to that at the ends;
    ``advantage`` is the latent path's minus the pixel path's. ``smooth`` is the rank correlation of
    the position on the latent path with the pixel distance from its start.
    """
    generator = load_generator(arm.train(arm.arguments), exact=True)
    walks = generator.walk(WALKS, STEPS, seed=arm.seed)
    paths = walks.view(WALKS, STEPS, *walks.shape[1:])
    share = torch.linspace(0, 1, STEPS).view(1, -1, 1, 1, 1)
    mixed = torch.lerp(paths[:, :1], paths[:, -1:], share)
    curves = {
        "latent": _compute_confidence(paths),
        "pixels": _compute_confidence(mixed),
    }
    distance = (paths - paths[:, :1]).flatten(2).norm(dim=2)[:, 1:]
    order = torch.arange(1, STEPS).expand(WALKS, -1)
    latent, pixels = (2 * curve[STEPS // 2] / (curve[0] + curve[-1]) for curve in curves.values())
    return {
        "latent_confidence": latent,
        "pixels_confidence": pixels,
        "advantage": latent - pixels,
        "smooth": float(spearmanr(order.flatten(), distance.flatten()).statistic),
        "latent_curve": curves["latent"],
        "pixels_curve": curves["pixels"],
    }


def _compute_confidence(paths: Tensor) -> list[float]:
    """Compute the mean largest probability at each step of paths [N, steps, C, H, W]."""
    classifier = load("digits")
    steps = (classifier(to_uint8(images))[1] for images in paths.unbind(dim=1))
    return [
        float(logits.softmax(dim=1).amax(dim=1).mean()) for logits in steps if logits is not None
    ]


def draw(figure: Figure, results: Results) -> None:
    """Plot the classifier's confidence along the path, one line per seed."""
    figure.set_figheight(2.6 * len(results))
    panels = figure.subplots(len(results), 1, squeeze=False, sharey=True)[:, 0]
    for axes, (arm, seeds) in zip(panels, results.items(), strict=True):
        for values in seeds:
            for number, kind in enumerate(("latent", "pixels")):
                curve = values[f"{kind}_curve"]
                label = kind if values is seeds[0] else None
                axes.plot(
                    [i / (len(curve) - 1) for i in range(len(curve))],
                    curve,
                    color=f"C{number}",
                    label=label,
                )
        axes.set(title=arm, xlabel="position on the path", ylabel="confidence of the classifier")
    panels[0].legend(frameon=False)
