"""Fréchet distance of two sets of images, such as FID and FD-DINOv2."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_lab.metrics.base import Statistics
from gan_lab.metrics.image_set_metric import ImageSetMetric
from gan_lab.utils.errors import UserError

# Below this many images per feature, the bias of the estimate dominates its value.
MIN_IMAGES_PER_FEATURE = 10


def moments(features: Tensor) -> Statistics:
    """Compute count [1], sum [D] and sum of outer products [D, D] of features [N, D], in float64.

    The moments of two disjoint sets add up to those of their union.
    """
    x = features.double()
    return {
        "count": torch.tensor([float(len(x))], dtype=torch.float64),
        "sum": x.sum(dim=0),
        "outer": x.T @ x,
    }


def frechet_distance(real: Statistics, fake: Statistics) -> float:
    """Compute ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) from the ``moments`` of two sets.

    Small negative values result from rounding and are set to 0.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; evaluated as in torch-fidelity.

    Raises:
        UserError: One of the sets has fewer than two images.
    """
    counts = [int(part["count"]) for part in (real, fake)]
    if min(counts) < 2:
        raise UserError(
            f"Too few images for a Fréchet distance: {counts[0]} real and {counts[1]} fake. Pass "
            "at least 2 of each."
        )
    mean_real, covariance_real = _mean_and_covariance(real)
    mean_fake, covariance_fake = _mean_and_covariance(fake)
    difference = mean_real - mean_fake
    # The trace of a matrix root is the sum of the roots of the eigenvalues. Rounding can make
    # eigenvalues of the product slightly negative, so the roots are taken as complex numbers.
    eigenvalues = np.linalg.eigvals(covariance_real.dot(covariance_fake)).astype("complex128")
    trace_of_root = np.sum(np.sqrt(eigenvalues).real)
    distance = (
        difference.dot(difference)
        + np.trace(covariance_real)
        + np.trace(covariance_fake)
        - 2 * trace_of_root
    )
    return max(0.0, float(distance))


def _mean_and_covariance(part: Statistics) -> tuple[np.ndarray, np.ndarray]:
    n = int(part["count"])
    mean = part["sum"] / n
    covariance = (part["outer"] - n * torch.outer(mean, mean)) / (n - 1)
    return mean.numpy(), covariance.numpy()


class FrechetDistance(ImageSetMetric):
    """Fréchet distance between real and fake images, as a torchmetrics metric.

    With ``extractor="inception"`` it is the FID. The states are sums, so memory does not grow with
    the number of images, and the value does not depend on how images are distributed over ranks.
    The estimate is biased upward for few images: use 10 images per feature or more.

    Args:
        extractor: Name of a feature extractor, or a module; see ``ImageSetMetric``.
        num_features: Number of features D; required if ``extractor`` is a module.
        **kwargs: See ``ImageSetMetric``.
    """

    higher_is_better = False
    real_count: Tensor
    real_sum: Tensor
    real_outer: Tensor
    fake_count: Tensor
    fake_sum: Tensor
    fake_outer: Tensor

    def __init__(
        self,
        extractor: str | nn.Module = "inception",
        *,
        num_features: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        features = num_features if isinstance(extractor, nn.Module) else self.extractor.features
        if features is None:
            raise UserError(
                f"num_features is missing for {type(extractor).__name__}: the states of a Fréchet "
                "distance have the size of the features. Pass num_features=<columns of the "
                "module's output>."
            )
        for kind in ("real", "fake"):
            shapes = {"count": (1,), "sum": (features,), "outer": (features, features)}
            for name, shape in shapes.items():
                self.add_state(
                    f"{kind}_{name}", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum"
                )

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [N, C, H, W] to the real or to the fake set."""
        features, _ = self.extract(images)
        if features.shape[1] != len(self.real_sum):
            raise UserError(
                f"The extractor returned {features.shape[1]} features, not {len(self.real_sum)}. "
                f"Pass num_features={features.shape[1]}."
            )
        kind = "real" if real else "fake"
        for name, value in moments(features).items():
            state = f"{kind}_{name}"
            setattr(self, state, getattr(self, state) + value.to(self.device))

    def compute(self) -> Tensor:
        """Return the distance, a float64 scalar.

        Raises:
            UserError: One of the sets has fewer than two images.
        """
        real, fake = (
            {name: getattr(self, f"{kind}_{name}").cpu() for name in ("count", "sum", "outer")}
            for kind in ("real", "fake")
        )
        return torch.tensor(frechet_distance(real, fake), dtype=torch.float64, device=self.device)
