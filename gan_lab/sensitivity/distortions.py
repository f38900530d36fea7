"""Distortions of real images that imitate defects of samples, with increasing severity.

Some change the pixels of each image, others the selection of images.
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
from gan_lab.sensitivity.style_loss import lose_size, lose_slant, lose_stroke_width


@dataclass(frozen=True)
class Distortion:
    """A distortion: its name, its severities and their unit, and one of two functions.

    Attributes:
        change: Maps pixels float [N, C, H, W] in 0..255 and a severity to pixels.
        choose: Maps rows [n] of fakes, rows [n] of the reals that they are compared with, the
            labels of all images or None, and a severity to rows of fakes.
        needs_labels: Whether it applies only to images with classes.
        needs_digits: Whether it applies only to digits.
    """

    name: str
    unit: str
    severities: tuple[int, ...]
    change: Callable[[Tensor, int], Tensor] | None = None
    choose: Callable[[np.ndarray, np.ndarray, np.ndarray | None, int], np.ndarray] | None = None
    needs_labels: bool = False
    needs_digits: bool = False


def blur(pixels: Tensor, severity: int) -> Tensor:
    """Blur with a Gaussian whose standard deviation is ``severity`` thousandths of the width."""
    sigma = severity / 1000 * pixels.shape[-1]
    side = 2 * math.ceil(3 * sigma) + 1
    # Reflection padding is limited to the image size.
    half = min(side // 2, min(pixels.shape[-2:]) - 1)
    return gaussian_blur(pixels, [2 * half + 1] * 2, [sigma] * 2)


def add_noise(pixels: Tensor, severity: int) -> Tensor:
    """Add Gaussian noise with a standard deviation of ``severity`` (of 255)."""
    drawn = Stream(0, "judge/noise").normal(len(pixels), *pixels.shape[1:], like=pixels)
    return pixels + severity * drawn


def shuffle(pixels: Tensor, severity: int) -> Tensor:
    """Shuffle ``severity`` x ``severity`` blocks, in a different order for each image."""
    height, width = (length // severity for length in pixels.shape[-2:])
    shuffled = pixels.clone()
    order = (
        Stream(0, "judge/shuffle")
        .uniform(len(pixels), severity * severity, like=pixels)
        .argsort(dim=1)
    )
    for block in range(severity * severity):
        y, x = block // severity * height, block % severity * width
        for i, other in enumerate(order[:, block].tolist()):
            v, u = other // severity * height, other % severity * width
            shuffled[i, :, y : y + height, x : x + width] = pixels[
                i, :, v : v + height, u : u + width
            ]
    return shuffled


def shift(pixels: Tensor, severity: int) -> Tensor:
    """Shift to the right by ``severity`` % of the width, replicating the edge."""
    by = max(1, round(severity / 100 * pixels.shape[-1]))
    return pad(pixels, (by, 0, 0, 0), mode="replicate")[..., : pixels.shape[-1]]


def darken(pixels: Tensor, severity: int) -> Tensor:
    """Reduce the brightness by ``severity`` %."""
    return pixels * (1 - severity / 100)


def lose_classes(
    fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, severity: int
) -> np.ndarray:
    """Replace images of the first ``severity`` classes by repeats of the other fakes."""
    assert labels is not None
    left = fakes[labels[fakes] >= np.unique(labels)[severity]]
    return np.resize(left, len(fakes)) if len(left) else fakes


def copy_reals(
    fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, severity: int
) -> np.ndarray:
    """Replace ``severity`` % of the fakes by the reals that they are compared with."""
    copied = round(severity / 100 * len(fakes))
    return np.concatenate([reals[:copied], fakes[copied:]])


def collapse(
    fakes: np.ndarray, reals: np.ndarray, labels: np.ndarray | None, severity: int
) -> np.ndarray:
    """Replace ``severity`` % of the fakes by repeats of the others."""
    return np.resize(fakes[: max(1, round((1 - severity / 100) * len(fakes)))], len(fakes))


# 0 is the resampling alone
STYLE_SEVERITIES = (0, 25, 50, 75, 100)
DISTORTIONS = (
    Distortion("blur", "‰ of the side", (3, 6, 12, 25, 50, 100), blur),
    Distortion("noise", "levels of 255", (2, 4, 8, 16, 32, 64), add_noise),
    Distortion("shuffled blocks", "blocks a side", (2, 4, 8), shuffle),
    Distortion("shift", "% of the width", (3, 6, 12, 25), shift),
    Distortion("darkness", "% less light", (3, 6, 12, 25, 50), darken),
    Distortion("lost classes", "classes", (1, 2, 3, 5), choose=lose_classes, needs_labels=True),
    Distortion("copies", "% of the fakes", (10, 25, 50, 100), choose=copy_reals),
    Distortion("collapse", "% repeated", (25, 50, 75, 90, 98), choose=collapse),
    Distortion("slant", "% of its variety lost", STYLE_SEVERITIES, lose_slant, needs_digits=True),
    Distortion("size", "% of its variety lost", STYLE_SEVERITIES, lose_size, needs_digits=True),
    Distortion(
        "stroke width",
        "% of its variety lost",
        STYLE_SEVERITIES,
        lose_stroke_width,
        needs_digits=True,
    ),
)


def apply_distortion(pixels: Tensor, distortion: Distortion, severity: int) -> Tensor:
    """Distort pixels uint8 [N, C, H, W]; the result is clamped and rounded, like samples."""
    assert distortion.change is not None
    return distortion.change(pixels.float(), severity).clamp(0, 255).round().to(torch.uint8)


def make_random_order(repeat: int, n: int) -> np.ndarray:
    """Return a random order of n images, which depends on the repeat only."""
    return seeding.permutation(0, "judge", repeat, n)
