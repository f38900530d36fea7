"""Distances between two samples of real digits, which a perfect generator would reach.

An arm has the argument ``images=<n>``, the size of both samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.data.base import GANDataModule
from gan_lab.data.split import Subset
from gan_lab.images import to_uint8
from gan_lab.metrics.extractors import load
from gan_lab.metrics.frechet import frechet_distance, moments
from gan_lab.metrics.kernel import kernel_distance
from gan_lab.seeding import Stream, permutation
from gan_lab.studies.measures import Arm, Values

# Pairs of samples per seed.
DRAWS = 50
BATCH_SIZE = 500
# Standard deviation of the pixel noise in [-1, 1] of a poor generator, the unit of ``kd_share``.
NOISE_STD = 0.2


def load_digits() -> GANDataModule:
    """Load the bundled digits."""
    return datasets.load(loading.load("dcgan", ["data.source=sample"]).config.data, 0)


def read_images(data: GANDataModule, split: Subset, rows: np.ndarray | None = None) -> Tensor:
    """Read images [N, C, H, W] in [-1, 1] of a split: those of ``rows``, by default all."""
    chosen = range(len(split)) if rows is None else rows.tolist()
    return data.in_range(split.__getitems__(chosen)).images


def extract_features(images: Tensor) -> Tensor:
    """Extract the digit classifier's features [N, 64] of images [N, 1, 28, 28] in [-1, 1]."""
    extractor = load("digits")
    with torch.no_grad():
        return torch.cat([extractor(to_uint8(part))[0] for part in images.split(BATCH_SIZE)])


def compute_fd(x: Tensor, y: Tensor) -> float:
    """Compute the Fréchet distance of two sets of features [N, D]."""
    return frechet_distance(moments(x), moments(y))


def compute_kd(x: Tensor, y: Tensor) -> float:
    """Compute the unbiased kernel distance of two sets of features [N, D] of the same size."""
    return kernel_distance(x, y, subsets=1, subset_size=len(x))[0]


def measure(arm: Arm) -> Values:
    """Return ``log_fd`` and ``kd_share``, each over ``DRAWS`` pairs of disjoint samples.

    ``log_fd`` is the logarithm of the mean distance. ``kd_share`` is the mean kernel distance
    divided by that between all digits and the same digits with noise.
    """
    n = int(arm.number("images"))
    digits = load_digits()
    images = read_images(digits, digits.train)
    features = extract_features(images)
    noise = NOISE_STD * Stream(arm.seed, "noise").normal(
        len(images), *images.shape[1:], like=images
    )
    noisy = extract_features((images + noise).clamp(-1, 1))
    unit = compute_kd(features, noisy)
    fd: list[float] = []
    kd: list[float] = []
    for draw in range(DRAWS):
        rows = permutation(arm.seed, "samples", draw, len(features))[: 2 * n]
        x, y = features[rows[:n]], features[rows[n:]]
        fd.append(compute_fd(x, y))
        kd.append(compute_kd(x, y))
    return {
        "log_fd": math.log(sum(fd) / DRAWS),
        "kd_share": sum(kd) / DRAWS / unit,
    }
