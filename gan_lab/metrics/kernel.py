"""Kernel distances (maximum mean discrepancy) of two sets of images: KID and CMMD."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchmetrics.utilities import dim_zero_cat

from gan_lab.metrics.image_set_metric import ImageSetMetric
from gan_lab.utils.errors import UserError

Array = TypeVar("Array", Tensor, np.ndarray)

NUM_SUBSETS = 100
MAX_SUBSET_SIZE = 1000
# torch-fidelity's seed, so that the subsets and the values are the same.
SUBSET_SEED = 2020
# Of each kind. Subsets have half as many images, and an unbiased estimate needs two.
MIN_IMAGES = 4
CMMD_SCALE = 1000
# rows of a kernel matrix that are in memory at a time
BLOCK_ROWS = 1000


def polynomial_kernel(x: Array, y: Array) -> Array:
    """Compute (x·y / D + 1)³ for each pair of rows of x [N, D] and y [M, D], [N, M].

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 3.1.
    """
    return (x @ y.T * (1 / x.shape[1]) + 1) ** 3


def gaussian_kernel(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Compute exp(-‖x - y‖² / 2σ²) for each pair of rows scaled to unit length, [N, M]."""
    # ‖x - y‖² = 2 - 2 x·y for vectors of unit length
    return ((normalize(x) @ normalize(y).T - 1) / sigma**2).exp()


def squared_mmd(among_x: Array, among_y: Array, between: Array) -> float:
    """Compute the unbiased squared maximum mean discrepancy of two sets of the same size.

    Args:
        among_x: Kernel matrix of the first set with itself, [M, M].
        among_y: Kernel matrix of the second set with itself, [M, M].
        between: Kernel matrix of the first with the second set, [M, M].

    Source: Gretton et al. 2012 (JMLR 13), equation 3; Bińkowski et al. 2018 (arXiv 1801.01401),
    section 2.2.
    """
    m = len(among_x)
    # The unbiased estimate excludes the kernel of an image with itself.
    total_x = (among_x.sum(1) - among_x.diagonal()).sum()
    total_y = (among_y.sum(1) - among_y.diagonal()).sum()
    return float((total_x + total_y) / (m * (m - 1)) - 2 * between.sum(0).sum() / (m * m))


def choose_subset_size(n: int) -> int:
    """Return the subset size for n images: 1,000, or half of fewer than 2,000 images."""
    return min(MAX_SUBSET_SIZE, n // 2)


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = NUM_SUBSETS, subset_size: int | None = None
) -> tuple[float, float]:
    """Compute KID: the mean ``squared_mmd`` under the ``polynomial_kernel`` over random subsets.

    It is unbiased: around 0, and possibly negative, for equal distributions. The subsets are drawn
    by row index, from a separate random generator, so another order of the rows changes the value
    within its standard deviation.

    Args:
        real: Features [N, D].
        fake: Features [M, D].
        subsets: Number of subsets.
        subset_size: Images per subset; None: ``choose_subset_size``.

    Returns:
        Mean and standard deviation over the subsets.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4; evaluated as in torch-fidelity.

    Raises:
        UserError: The subsets are larger than one of the sets, or have fewer than two images.
    """
    size = choose_subset_size(min(len(real), len(fake))) if subset_size is None else subset_size
    if not 2 <= size <= min(len(real), len(fake)):
        raise UserError(
            f"Too few images for a kernel distance with subsets of {size}: {len(real)} real and "
            f"{len(fake)} fake. Pass at least {MIN_IMAGES} of each, or a subset_size from 2 to "
            "their number."
        )
    x, y = fake.cpu().numpy(), real.cpu().numpy()
    random = np.random.RandomState(SUBSET_SEED)
    values = np.zeros(subsets)
    for i in range(subsets):
        some_x = x[random.choice(len(x), size, replace=False)]
        some_y = y[random.choice(len(y), size, replace=False)]
        values[i] = squared_mmd(
            polynomial_kernel(some_x, some_x),
            polynomial_kernel(some_y, some_y),
            polynomial_kernel(some_x, some_y),
        )
    return float(np.mean(values)), float(np.std(values))


def gaussian_kernel_distance(real: Tensor, fake: Tensor, sigma: float) -> float:
    """Compute CMMD: 1,000 times the unbiased squared MMD under the ``gaussian_kernel``.

    The authors' program is biased: it includes the kernel of each image with itself, which adds
    about 1,000 (1 - k) (1/N + 1/M) for a mean kernel k.

    Source: Jayasumana et al. 2024 (arXiv 2401.09603), section 4, equation 5.

    Raises:
        UserError: One of the sets has fewer than two images.
    """
    if min(len(real), len(fake)) < 2:
        raise UserError(
            f"Too few images for a kernel distance: {len(real)} real and {len(fake)} fake. Pass at "
            "least 2 of each."
        )
    real, fake = real.double(), fake.double()
    within = _mean_kernel(real, real, sigma, same=True) + _mean_kernel(fake, fake, sigma, same=True)
    return CMMD_SCALE * (within - 2 * _mean_kernel(real, fake, sigma, same=False))


def _mean_kernel(x: Tensor, y: Tensor, sigma: float, same: bool) -> float:
    """Compute the mean Gaussian kernel over all pairs of rows, of different rows with ``same``."""
    total = sum(float(gaussian_kernel(rows, y, sigma).sum()) for rows in x.split(BLOCK_ROWS))
    if same:
        # the kernel of a row with itself is 1
        return (total - len(x)) / (len(x) * (len(x) - 1))
    return total / (len(x) * len(y))


def describe_kernel(rows: int, sigma: float | None) -> dict[str, Any]:
    """Describe a kernel distance over ``rows`` rows of features, for its protocol."""
    if sigma:
        return {"sigma": sigma, "rows": rows}
    return {"subsets": NUM_SUBSETS, "subset_size": choose_subset_size(rows), "rows": rows}


class KernelDistance(ImageSetMetric):
    """Kernel distance between real and fake images, as a torchmetrics metric.

    With ``extractor="inception"`` it is KID, with ``extractor="clip"`` CMMD. It is unbiased, so it
    also suits few images. All features are kept in memory. The subsets of KID are drawn by index in
    the order of the ranks, so another distribution of images over ranks changes the value within
    its standard deviation.

    Args:
        extractor: Name of a feature extractor, or a module; see ``ImageSetMetric``.
        subsets: Number of subsets of the polynomial kernel.
        subset_size: Images per subset; None: 1,000, or half of fewer than 2,000 images.
        sigma: Width of a Gaussian kernel on features of unit length, over all images; None: the
            extractor's default, which is 10 for clip and a polynomial kernel for all others.
        **kwargs: See ``ImageSetMetric``.
    """

    higher_is_better = False
    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(
        self,
        extractor: str | nn.Module = "inception",
        *,
        subsets: int = NUM_SUBSETS,
        subset_size: int | None = None,
        sigma: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.subsets = subsets
        self.subset_size = subset_size
        self.sigma = self.extractor.sigma if sigma is None else sigma
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [N, C, H, W] to the real or to the fake set."""
        features, _ = self.extract(images)
        (self.real_features if real else self.fake_features).append(features.to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation over the subsets.

        A Gaussian kernel uses all images at once: its standard deviation is NaN.

        Raises:
            UserError: There are too few images.
        """
        if len(self.real_features) == 0 or len(self.fake_features) == 0:
            raise UserError(
                "A kernel distance needs real and fake images. Call update for both kinds first."
            )
        real, fake = dim_zero_cat(self.real_features), dim_zero_cat(self.fake_features)
        if self.sigma:
            mean, deviation = gaussian_kernel_distance(real, fake, self.sigma), float("nan")
        else:
            mean, deviation = kernel_distance(real, fake, self.subsets, self.subset_size)
        return torch.tensor(mean, device=self.device), torch.tensor(deviation, device=self.device)
