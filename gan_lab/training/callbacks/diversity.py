"""Log the distance of the EMA from the raw weights, and the diversity of the generated images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gan_lab.device import exact_arithmetic
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.seeding import Stream
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress

# the diversity costs a batch of images, so it is measured at every fifth row of losses
DIVERSITY_INTERVAL_ROWS = 5


class Diversity(FamilyCallback):
    """Logs ``ema_distance`` at each row of losses, and the diversity at every fifth row.

    The statistics ``diversity``, ``nearest_other`` and ``class_entropy`` are computed on the sample
    grid (fixed latents, EMA weights) and divided by their values for real images: 1 is as diverse
    as the data. ``diversity`` is 0 if all images are identical, ``nearest_other`` if every image
    has a duplicate.
    """

    def __init__(
        self,
        every: int,
        batch: Batch,
        extractor: Extractor,
        by_class: bool,
        seed: int,
        ema: EMA,
        progress: Progress,
    ) -> None:
        self.every = every
        self.batch = batch
        self.extractor = extractor
        self.seed = seed
        self.ema = ema
        self.progress = progress
        self.groups = rows_by_label(batch.labels) if by_class and batch.labels is not None else None
        self._real: dict[str, float] | None = None

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        is_last = self.progress.spent
        if is_last or self.progress.has_crossed(self.every):
            family.log_scalars(ema_distance=self.ema.distance(family))
        if is_last or self.progress.has_crossed(DIVERSITY_INTERVAL_ROWS * self.every):
            with self.ema.applied(family):
                family.log_scalars(**self.measure(family))

    @torch.no_grad()
    def measure(self, family: Family) -> dict[str, Tensor]:
        """Compute the statistics of the current generator; empty if the grid has one image."""
        batch = self.batch.to_device(family.device, family.dtype)
        with exact_arithmetic(family.device):
            # cached, so that only the first measurement synchronizes with the device
            if self._real is None:
                self.groups = self.groups and [rows.to(family.device) for rows in self.groups]
                real = self._statistics(batch.images)
                self._real = dict(zip(real, torch.stack(list(real.values())).tolist(), strict=True))
            fake = self._statistics(family.generate(batch, Stream(self.seed, "samples")))
        return {name: fake[name] / real for name, real in self._real.items() if real > 0}

    def _statistics(self, images: Tensor) -> dict[str, Tensor]:
        features, logits = self.extractor(
            images if self.extractor.name == "points" else to_uint8(images)
        )
        statistics = {"diversity": mean_pairwise_distance(features, self.groups)}
        # for 2-D points, the distance to the nearest neighbor measures the width of a mode
        if self.extractor.name != "points":
            statistics["nearest_other"] = mean_nearest_distance(features, self.groups)
        if logits is not None:
            statistics["class_entropy"] = entropy(logits)
        return statistics


def rows_by_label(labels: Tensor) -> list[Tensor]:
    """Return the row indices of each label of labels [N], ordered by label."""
    return [(labels == label).nonzero().squeeze(1) for label in labels.unique()]


def mean_pairwise_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """Compute the mean distance between pairs of features [N, D].

    Args:
        features: The features.
        groups: Row indices; if given, only pairs within a group count.

    Returns:
        A scalar; 0 if there are no pairs.
    """
    parts = [features] if groups is None else [features[rows] for rows in groups]
    distances = torch.cat([torch.pdist(part) for part in parts]).double()
    return distances.sum() / max(1, len(distances))


def mean_nearest_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """Compute the mean distance of features [N, D] to their nearest neighbor.

    Args:
        features: The features.
        groups: Row indices; if given, neighbors are searched within the group.

    Returns:
        A scalar; 0 if there are no pairs.
    """
    parts = [features] if groups is None else [features[rows] for rows in groups]
    distances = [
        torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist")
        for part in parts
        if len(part) > 1
    ]
    nearest = [pairs.fill_diagonal_(torch.inf).min(dim=1).values for pairs in distances]
    return torch.cat([features.new_zeros(0), *nearest]).double().sum() / max(
        1, sum(map(len, nearest))
    )


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy in nats of the predicted classes of logits [N, classes]."""
    # bincount would synchronize with the device
    classes = torch.arange(logits.shape[1], device=logits.device)
    shares = (logits.argmax(dim=1, keepdim=True) == classes).double().mean(dim=0)
    return torch.special.entr(shares).sum()
