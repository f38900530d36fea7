"""Log how far the EMA is from the live weights, and how diverse the generated images are."""

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

ROWS = 5  # between two looks at the diversity, which costs a batch of images


class Diversity(FamilyCallback):
    """Records ``ema_distance`` at each row of losses, and at every fifth ``diversity``, ``nearest_other`` and
    ``class_entropy``.

    They are of the grid that the samples show: the same latents all through, of the averaged generator. They are
    relative to the reals beside which the fakes are made, so that 1 is as diverse as the data. ``diversity`` is 0 of
    one image again and again; ``nearest_other`` of any number of images that come again.
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
        self.every, self.batch, self.extractor, self.by_class, self.seed = (
            every,
            batch,
            extractor,
            by_class,
            seed,
        )
        self.ema, self.progress = ema, progress
        self.groups = rows_by_label(batch.labels) if by_class and batch.labels is not None else None
        self._real: dict[str, float] | None = None

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        ends = self.progress.spent
        if ends or self.progress.has_crossed(self.every):
            family.log_scalars(ema_distance=self.ema.distance(family))
        if ends or self.progress.has_crossed(ROWS * self.every):
            with self.ema.applied(family):
                family.log_scalars(**self.measure(family))

    @torch.no_grad()
    def measure(self, family: Family) -> dict[str, Tensor]:
        """The three of the family's generator as it is now; nothing of a single image."""
        batch = self.batch.to_device(family.device, family.dtype)
        with exact_arithmetic(family.device):
            if self._real is None:  # the only time that the device is waited for
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
        if self.extractor.name != "points":  # whose neighbours tell how wide a mode is
            statistics["nearest_other"] = mean_nearest_distance(features, self.groups)
        if logits is not None:
            statistics["class_entropy"] = entropy(logits)
        return statistics


def rows_by_label(labels: Tensor) -> list[Tensor]:
    """The rows of each label of labels [B], in the order of the labels; made on the host, once."""
    return [(labels == label).nonzero().squeeze(1) for label in labels.unique()]


def mean_pairwise_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """The mean distance between two of the features [B, D], with ``groups`` of rows between two of one; 0 without a pair."""
    parts = [features] if groups is None else [features[rows] for rows in groups]
    distances = torch.cat([torch.pdist(part) for part in parts]).double()
    return distances.sum() / max(1, len(distances))


def mean_nearest_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """The mean distance of the features [B, D] to the nearest other one, with ``groups`` to that of their group; 0 of a
    single one.
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
    """The entropy, in nats, of the histogram of the likeliest classes of logits [B, classes]."""
    classes = torch.arange(
        logits.shape[1], device=logits.device
    )  # bincount would make the host wait
    shares = (logits.argmax(dim=1, keepdim=True) == classes).double().mean(dim=0)
    return torch.special.entr(shares).sum()
