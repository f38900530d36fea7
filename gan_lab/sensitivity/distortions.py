"""Growing doses of what can be wrong with samples, given to real images.

The ones change pixels, each image by itself; the others choose which images there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.functional import gaussian_blur

from gan_lab import seeding
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class Disturbance:
    """A name, the doses with their unit, and one of two ways to be given: to pixels, or to a choice of rows."""

    name: str
    unit: str
    doses: tuple[int, ...]
    # pixels float [N, C, H, W] in 0..255 and the dose to the same
    change: Callable[[Tensor, int], Tensor] | None = None
    # rows [n] of fakes, rows [n] of the reals they are compared with, labels of all or None, the dose: other rows of fakes
    choose: Callable[[np.ndarray, np.ndarray, np.ndarray | None, int], np.ndarray] | None = None
    needs_labels: bool = False


def blur(pixels: Tensor, dose: int) -> Tensor:
    """Gaussian, its standard deviation ``dose`` thousandths of the side."""
    sigma = dose / 1000 * pixels.shape[-1]
    side = 2 * math.ceil(3 * sigma) + 1
    half = min(side // 2, min(pixels.shape[-2:]) - 1)  # what a reflection can fill
    return gaussian_blur(pixels, [2 * half + 1] * 2, [sigma] * 2)


def noise(pixels: Tensor, dose: int) -> Tensor:
    """Gaussian, its standard deviation ``dose`` levels of 255."""
    drawn = Stream(0, "judge/noise").normal(len(pixels), *pixels.shape[1:], like=pixels)
    return pixels + dose * drawn


def shuffle(pixels: Tensor, dose: int) -> Tensor:
    """``dose`` x ``dose`` blocks of each image in another order for each image."""
    height, width = (length // dose for length in pixels.shape[-2:])
    shuffled = pixels.clone()
    order = Stream(0, "judge/shuffle").uniform(len(pixels), dose * dose, like=pixels).argsort(dim=1)
    for place in range(dose * dose):
        y, x = place // dose * height, place % dose * width
        for i, other in enumerate(order[:, place].tolist()):
            v, u = other // dose * height, other % dose * width
            shuffled[i, :, y : y + height, x : x + width] = pixels[
                i, :, v : v + height, u : u + width
            ]
    return shuffled


def shift(pixels: Tensor, dose: int) -> Tensor:
    """To the right by ``dose`` % of the width, the edge repeated."""
    by = max(1, round(dose / 100 * pixels.shape[-1]))
    return pad(pixels, (by, 0, 0, 0), mode="replicate")[..., : pixels.shape[-1]]


def darken(pixels: Tensor, dose: int) -> Tensor:
    """``dose`` % less light."""
    return pixels * (1 - dose / 100)


def lose_classes(
    fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, dose: int
) -> np.ndarray:
    """Without the images of the first ``dose`` classes: others of the same fakes in their place."""
    assert labels is not None
    left = fakes[labels[fakes] >= np.unique(labels)[dose]]
    return np.resize(left, len(fakes)) if len(left) else fakes


def copy(fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, dose: int) -> np.ndarray:
    """``dose`` % of the fakes are the very reals that they are compared with."""
    copied = round(dose / 100 * len(fakes))
    return np.concatenate([reals[:copied], fakes[copied:]])


def collapse(
    fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, dose: int
) -> np.ndarray:
    """``dose`` % of the fakes repeat the others."""
    return np.resize(fakes[: max(1, round((1 - dose / 100) * len(fakes)))], len(fakes))


DISTURBANCES = (
    Disturbance("blur", "‰ of the side", (3, 6, 12, 25, 50, 100), blur),
    Disturbance("noise", "levels of 255", (2, 4, 8, 16, 32, 64), noise),
    Disturbance("shuffled blocks", "blocks a side", (2, 4, 8), shuffle),
    Disturbance("shift", "% of the width", (3, 6, 12, 25), shift),
    Disturbance("darkness", "% less light", (3, 6, 12, 25, 50), darken),
    Disturbance("lost classes", "classes", (1, 2, 3, 5), choose=lose_classes, needs_labels=True),
    Disturbance("copies", "% of the fakes", (10, 25, 50, 100), choose=copy),
    Disturbance("collapse", "% repeated", (25, 50, 75, 90, 98), choose=collapse),
)


def disturbed(pixels: Tensor, disturbance: Disturbance, dose: int) -> Tensor:
    """Pixels uint8 [N, C, H, W] with a dose, uint8: clamped and rounded, as samples are."""
    assert disturbance.change is not None
    return disturbance.change(pixels.float(), dose).clamp(0, 255).round().to(torch.uint8)


def order(repeat: int, n: int) -> np.ndarray:
    """A random order of n images for each repeat."""
    return seeding.permutation(0, "judge", repeat, n)
