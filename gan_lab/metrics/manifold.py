"""Precision, recall, density and coverage: how two sets of images overlap in feature space."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.utilities import dim_zero_cat

from gan_lab.metrics.image_set_metric import ImageSetMetric
from gan_lab.metrics.neighbor_search import BLOCK_ROWS, DUPLICATE_DISTANCE, find_nearest
from gan_lab.utils.errors import UserError

logger = logging.getLogger("gan_lab")
# Neighbors that define the radius of a ball, as in the papers.
PRECISION_NEIGHBORS = 3
DENSITY_NEIGHBORS = 5
MIN_IMAGES = DENSITY_NEIGHBORS + 1
SCORE_NAMES = ("precision", "recall", "density", "coverage")


def compute_radii(features: Tensor, neighbors: tuple[int, ...]) -> list[Tensor]:
    """Compute the distance of each row of features [N, D] to its k-th nearest other row.

    Returns:
        Distances [N] for each k of ``neighbors``.

    Raises:
        UserError: There are too few rows.
    """
    if len(features) <= max(neighbors):
        raise UserError(
            f"Too few images for {max(neighbors)} neighbors each: {len(features)}. Pass at least "
            f"{max(neighbors) + 1}."
        )
    # The nearest row is the row itself.
    distances, _ = find_nearest(features, features, max(neighbors) + 1)
    return list(distances[:, list(neighbors)].unbind(dim=1))


def drop_duplicates(features: Tensor) -> Tensor:
    """Return features [N, D] without rows that repeat an earlier one up to rounding."""
    tolerance = DUPLICATE_DISTANCE * features.norm(dim=1).median()
    columns = torch.arange(len(features), device=features.device)
    is_new = [
        ~((torch.cdist(rows, features) <= tolerance) & (columns < numbers[:, None])).any(dim=1)
        for rows, numbers in zip(features.split(BLOCK_ROWS), columns.split(BLOCK_ROWS), strict=True)
    ]
    return features[torch.cat(is_new)]


def precision_recall_density_coverage(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Compute precision, recall, density and coverage of features [N, D] and [M, D], in float64.

    The radius of the ball around an image is the distance to its k-th nearest neighbor in the same
    set, with k = 3 for precision and recall and k = 5 for density and coverage.

    - precision: share of fakes inside at least one ball of the reals
    - recall: share of reals inside at least one ball of the fakes
    - density: number of balls of the reals that contain a fake, divided by k, mean over the fakes
    - coverage: share of reals whose ball contains at least one fake

    Reals that occur often enough to be their own k-th neighbors would have balls without a size,
    which no fake can hit. Then all repetitions are left out, with a warning.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2; Naeem et al. 2020 (arXiv
    2002.09797), equations 3 and 4.

    Raises:
        UserError: One of the sets has fewer than six images.
    """
    real, fake = real.double(), fake.double()
    real_neighbors = (PRECISION_NEIGHBORS, DENSITY_NEIGHBORS)
    real_radii, real_density_radii = compute_radii(real, real_neighbors)
    if real_radii.min() <= DUPLICATE_DISTANCE * real.norm(dim=1).median():
        distinct = drop_duplicates(real)
        if MIN_IMAGES <= len(distinct) < len(real):
            logger.warning(
                f"Precision, recall, density and coverage use {len(distinct):,} distinct of "
                f"{len(real):,} real images: some occur {PRECISION_NEIGHBORS + 1} times or more"
            )
            real = distinct
            real_radii, real_density_radii = compute_radii(real, real_neighbors)
    (fake_radii,) = compute_radii(fake, (PRECISION_NEIGHBORS,))
    precise_fakes = 0.0
    balls_around_fakes = 0.0
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = torch.zeros_like(recalled)
    for i, rows in enumerate(fake.split(BLOCK_ROWS)):
        distance = torch.cdist(rows, real)
        radii_of_rows = fake_radii[i * BLOCK_ROWS : i * BLOCK_ROWS + len(rows), None]
        in_density_ball = distance <= real_density_radii
        precise_fakes += float((distance <= real_radii).any(dim=1).sum())
        balls_around_fakes += float(in_density_ball.sum())
        recalled |= (distance <= radii_of_rows).any(dim=0)
        covered |= in_density_ball.any(dim=0)
    return {
        "precision": precise_fakes / len(fake),
        "recall": float(recalled.double().mean()),
        "density": balls_around_fakes / (DENSITY_NEIGHBORS * len(fake)),
        "coverage": float(covered.double().mean()),
    }


def describe_share(share: str, rows: int) -> dict[str, Any]:
    """Describe one of ``SCORE_NAMES`` over ``rows`` rows of features, for its protocol."""
    neighbors = PRECISION_NEIGHBORS if share in ("precision", "recall") else DENSITY_NEIGHBORS
    # The key is stored in summary.json, so its spelling stays.
    return {"neighbours": neighbors, "rows": rows}


class PrecisionRecallDensityCoverage(ImageSetMetric):
    """Precision, recall, density and coverage of fake images, as a torchmetrics metric.

    All features are kept in memory, and time grows with real times fake images.
    The values do not depend on how images are distributed over ranks.

    Args:
        extractor: Name of a feature extractor, or a module; see ``ImageSetMetric``.
        **kwargs: See ``ImageSetMetric``.
    """

    higher_is_better = True
    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(self, extractor: str | nn.Module = "inception", **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [N, C, H, W] to the real or to the fake set."""
        features, _ = self.extract(images)
        (self.real_features if real else self.fake_features).append(features.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return precision, recall, density and coverage by name.

        Raises:
            UserError: One of the sets has fewer than six images.
        """
        if len(self.real_features) == 0 or len(self.fake_features) == 0:
            raise UserError(
                "Precision and recall need real and fake images. Call update for both kinds first."
            )
        values = precision_recall_density_coverage(
            dim_zero_cat(self.real_features), dim_zero_cat(self.fake_features)
        )
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}
