"""Ways between samples of digits: through the latent space, and from pixel to pixel."""

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
    """Confidence of the digit classifier halfway, by either way, and the order of the images on the way.

    A confidence is the mean largest probability halfway over that at the ends; the ``advantage`` is that of the latent
    space; ``smooth`` is the rank correlation of
    the share of the way with the distance from its start, pixel by pixel.
    """
    walks = load_generator(arm.train(arm.words), exact=True).walk(WALKS, STEPS, seed=arm.seed)
    ways = walks.view(WALKS, STEPS, *walks.shape[1:])
    share = torch.linspace(0, 1, STEPS).view(1, -1, 1, 1, 1)
    mixed = torch.lerp(ways[:, :1], ways[:, -1:], share)
    curves = {name: _confidence(each) for name, each in (("latent", ways), ("pixels", mixed))}
    distance = (ways - ways[:, :1]).flatten(2).norm(dim=2)[:, 1:]
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


def _confidence(ways: Tensor) -> list[float]:
    """The mean largest probability at each step."""
    classifier = load("digits")
    steps = (classifier(to_uint8(images))[1] for images in ways.unbind(dim=1))
    return [
        float(logits.softmax(dim=1).amax(dim=1).mean()) for logits in steps if logits is not None
    ]


def draw(figure: Figure, results: Results) -> None:
    """The classifier's confidence along the way, a line for each seed."""
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
        axes.set(title=arm, xlabel="share of the way", ylabel="confidence of the classifier")
    panels[0].legend(frameon=False)
