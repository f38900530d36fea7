"""Distances between two sets of features, and the inception-score formula: torch-fidelity's where it has them.

Features are [N, D] of the reals and [M, D] of the fakes, on the CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from gan_lab.utils.errors import UserError

Statistics = dict[str, Tensor]

SUBSETS = 100  # of a kernel distance
NEIGHBOURS_PR, NEIGHBOURS_DC = 3, 5  # of precision and recall, and of density and coverage, as in their papers
ROWS = 1000  # of a matrix of distances that is in memory at once


def moments(features: Tensor) -> Statistics:
    """Count [1], sum [D] and sum of outer products [D, D] of features, float64: those of two sets can be added."""
    x = features.double()
    return {"count": torch.tensor([float(len(x))], dtype=torch.float64), "sum": x.sum(dim=0), "outer": x.T @ x}


def frechet_distance(real: Statistics, fake: Statistics) -> float:
    """|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) of two sets' ``moments``, at least 0.

    Raises UserError for fewer than two images.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6.
    """
    counts = [int(part["count"]) for part in (real, fake)]
    if min(counts) < 2:
        raise UserError(f"a Fréchet distance needs two images or more of each kind, not {counts[0]} and {counts[1]}")
    statistics = []
    for n, part in zip(counts, (real, fake), strict=True):
        mean = part["sum"] / n
        covariance = (part["outer"] - n * torch.outer(mean, mean)) / (n - 1)
        statistics.append({"mu": mean.numpy(), "sigma": covariance.numpy()})
    return max(0.0, float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]))


def subset_size(n: int) -> int:
    """Images in each subset of a kernel distance: the reference's 1,000, or half of fewer than 2,000."""
    return min(1000, n // 2) if n < 2000 else 1000


def kernel_distance(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Squared maximum mean discrepancy under the kernel (x·y/D + 1)³, unbiased; mean and spread over 100 subsets.

    Around 0 for equal distributions, also below it. Subsets are drawn by a generator of its own.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4.
    """
    size = subset_size(min(len(real), len(fake)))
    values = kid_features_to_metric(fake, real, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False)
    return values[KEY_METRIC_KID_MEAN], values[KEY_METRIC_KID_STD]


def kernel(x: Tensor, y: Tensor, sigma: float | None = None) -> Tensor:
    """(x·y/D + 1)³ of each pair of rows, [N, M]; with ``sigma`` exp(-‖x - y‖² / 2σ²) of the rows at unit length."""
    if sigma is None:
        return (x @ y.T / x.shape[1] + 1) ** 3
    return ((normalize(x) @ normalize(y).T - 1) / sigma**2).exp()  # ‖x - y‖² = 2 - 2 x·y


def gaussian_distance(real: Tensor, fake: Tensor, sigma: float) -> float:
    """1,000 times the squared maximum mean discrepancy under the Gaussian ``kernel``, unbiased.

    The authors' program keeps each image's likeness to itself in the means, which adds about 1,000 (1 - k) (1/N + 1/M)
    for a mean kernel k.

    Source: Jayasumana et al. 2024 (arXiv 2401.09603), section 4, equation 5: CMMD.
    """
    real, fake = real.double(), fake.double()

    def mean(x: Tensor, y: Tensor, itself: bool) -> float:
        total = sum(float(kernel(rows, y, sigma).sum()) for rows in x.split(ROWS)) - itself * len(x)
        return total / (len(x) * (len(y) - itself))

    return 1000 * (mean(real, real, True) + mean(fake, fake, True) - 2 * mean(real, fake, False))


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """exp(E[KL(p(y|x) ‖ p(y))]) of logits [N, classes]; mean and spread over ``splits`` parts of the images.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4.
    """
    values = isc_features_to_metric(logits, splits)
    return values[KEY_METRIC_ISC_MEAN], values[KEY_METRIC_ISC_STD]


def nearest(points: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances to each point's k nearest of the others, nearest first, and their numbers, [N, k] each."""
    nearest_of_parts = [torch.cdist(rows, others).topk(k, largest=False) for rows in points.split(ROWS)]
    return torch.cat([part.values for part in nearest_of_parts]), torch.cat([part.indices for part in nearest_of_parts])


class Nearest:
    """The distances of some features [N, D] to the nearest of others that come block by block, and which these are."""

    def __init__(self, points: Tensor, k: int = 1) -> None:
        self.points, self.k, self.seen = points, k, 0
        self.distances = points.new_full((len(points), k), torch.inf)
        self.numbers = torch.zeros(len(points), k, dtype=torch.int64)

    def add(self, others: Tensor) -> None:
        """Look through the next block [M, D]."""
        near, numbers = nearest(self.points, others, min(self.k, len(others)))
        distances, order = torch.cat([self.distances, near], dim=1).sort(dim=1, stable=True)
        numbers = torch.cat([self.numbers, numbers + self.seen], dim=1).gather(1, order)
        self.distances, self.numbers = distances[:, : self.k], numbers[:, : self.k]
        self.seen += len(others)


def radii(features: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """The distance of each row to its k-th nearest other row, [N] for each k."""
    if len(features) <= max(neighbours):
        raise UserError(f"{len(features)} images are too few to have {max(neighbours)} neighbours each")
    distances, _ = nearest(features, features, max(neighbours) + 1)  # itself is the first
    return list(distances[:, list(neighbours)].unbind(dim=1))


def manifold(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Precision and recall (balls of 3 neighbours), density and coverage (balls of 5), float64.

    Precision is the share of fakes inside a ball of the reals, recall that of reals inside a ball of the fakes; density
    is how many balls of the reals hold a fake, over 5; coverage is the share of reals whose ball holds a fake.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), section 2; Naeem et al. 2020 (arXiv 2002.09797), section 3.
    """
    real, fake = real.double(), fake.double()
    around_real, around_real_dc = radii(real, (NEIGHBOURS_PR, NEIGHBOURS_DC))
    (around_fake,) = radii(fake, (NEIGHBOURS_PR,))
    inside, balls, recalled, covered = 0.0, 0.0, torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real))
    covered = covered.bool()
    for i, rows in enumerate(fake.split(ROWS)):
        distance = torch.cdist(rows, real)
        own_radii = around_fake[i * ROWS : i * ROWS + len(rows), None]
        near = distance <= around_real_dc
        inside += float((distance <= around_real).any(dim=1).sum())
        balls += float(near.sum())
        recalled |= (distance <= own_radii).any(dim=0)
        covered |= near.any(dim=0)
    return {
        "precision": inside / len(fake),
        "recall": float(recalled.double().mean()),
        "density": balls / (NEIGHBOURS_DC * len(fake)),
        "coverage": float(covered.double().mean()),
    }


def squared_error(images: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    """Sum of squared differences of pixels 0..255 of each image, and how many values were compared, [B, 2] float64.

    Images are uint8 [B, C, H, W], gray ones are compared with colour as gray; ``where`` is bool [B, 1, H, W].
    """
    difference = (images.double() - truth.double()).square()
    if where is None:
        count = torch.full((len(images),), float(difference[0].numel()), dtype=torch.float64, device=images.device)
    else:
        difference = difference * where
        count = where.flatten(1).sum(dim=1).double() * difference.shape[1]
    return torch.stack([difference.flatten(1).sum(dim=1), count], dim=1).cpu()


def psnr(error: Tensor) -> float:
    """10 log10(255² / mean squared error) in dB over all images together, of ``squared_error`` [N, 2]; at most 100."""
    total, count = error.sum(dim=0).tolist()
    return min(100.0, 10 * math.log10(255.0**2 / max(total / max(count, 1.0), 1e-12)))
