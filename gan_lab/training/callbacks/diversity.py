"""Log the distance of the EMA from the raw weights, and statistics of generated images."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor, distributed

from gan_lab.device import exact_arithmetic
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.seeding import Stream
from gan_lab.training.callbacks.base import FamilyCallback, evaluation_mode
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.sample_statistics import (
    NEAR_COPY_FRACTION,
    class_distances,
    color_spread,
    energy_distance,
    entropy,
    mean_nearest_distance,
    mean_pairwise_distance,
    nearest_distances,
    rank_probability,
    roughness,
    rows_by_label,
)
from gan_lab.utils.errors import is_out_of_memory

logger = logging.getLogger("gan_lab")
# the statistics cost a batch of images, so they are measured at every fifth row of losses
DIVERSITY_INTERVAL_ROWS = 5
# Pixel values are in [-1, 1]. With less color, images are gray up to the noise of a JPEG file.
MIN_COLOR_SPREAD = 0.02
# images of the energy distance: enough for an alert, and cheap for the 1,000 points of the toy data
MAX_COMPARED_IMAGES = 256
# With fewer training or validation images, a discriminator's overfitting cannot be measured.
MIN_RATED_IMAGES = 32


class _Features(NamedTuple):
    """Extracted features [N, D] and logits [N, classes] of images [N, C, H, W] in [-1, 1]."""

    images: Tensor
    features: Tensor
    logits: Tensor | None


class Diversity(FamilyCallback):
    """Logs ``ema_distance`` at each row of losses, and statistics of images at every fifth row.

    They are computed on images of fixed latents and EMA weights, with the labels or sources of
    ``batch``; docs/health.md describes each column. ``sample_distance_raw`` is that of the raw
    weights, and ``overfitting_auc`` is about the discriminator.

    Args:
        every: Images between two rows of losses.
        batch: Reals to compare with, and the labels and sources of the fakes.
        extractor: Extractor of the features.
        by_class: Whether the generator is class-conditional.
        seed: Seed of the latents.
        ema: The EMA weights.
        progress: The progress of the training.
        rated: Training images and validation images that the discriminator rates; None or too few:
            ``overfitting_auc`` is left out.
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
        rated: tuple[Batch, Batch] | None = None,
    ) -> None:
        self.every = every
        self.batch = batch
        self.extractor = extractor
        self.seed = seed
        self.ema = ema
        self.progress = progress
        self.groups = rows_by_label(batch.labels) if by_class and batch.labels is not None else None
        self.rated = rated
        if rated and min(len(part.images) for part in rated) < MIN_RATED_IMAGES:
            self.rated = None
        # statistics of the reals, on the device and as numbers
        self._real: _Features | None = None
        self._real_values: dict[str, float] = {}
        self._real_class_distances: Tensor | None = None

    def on_fit_start(self, trainer: Trainer, family: Family) -> None:
        if self.rated is None:
            return
        try:
            with torch.no_grad(), evaluation_mode(family, ["discriminator"]):
                self._rate(family, self.rated[0])
        # a user's family may call its discriminator with other arguments
        except Exception as error:
            if is_out_of_memory(error):
                raise
            logger.info(
                f"Skipping overfitting_auc: {type(family).__name__}.rate_reals failed "
                f"({type(error).__name__}: {error}). Override it"
            )
            self.rated = None

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        is_last = self.progress.spent
        if is_last or self.progress.has_crossed(self.every):
            family.log_scalars(ema_distance=self.ema.distance(family))
        if is_last or self.progress.has_crossed(DIVERSITY_INTERVAL_ROWS * self.every):
            with self.ema.applied(family):
                values = self.measure(family)
            raw_values = self.measure_raw(family)
            if trainer.world_size > 1:
                raw_values = _broadcast(raw_values)
            family.log_scalars(**values, **raw_values)

    @torch.no_grad()
    def measure(self, family: Family) -> dict[str, Tensor]:
        """Compute the statistics of the current generator; empty if the batch has one image."""
        with exact_arithmetic(family.device):
            self._measure_reals(family)
            fake = self._extract(self._generate(family))
            return self._compare(fake)

    @torch.no_grad()
    def measure_raw(self, family: Family) -> dict[str, Tensor]:
        """Compute ``sample_distance_raw`` and ``overfitting_auc`` of the raw networks."""
        values = {}
        names = [*family.ema_networks, "discriminator"]
        with exact_arithmetic(family.device), evaluation_mode(family, names):
            if self._real_values.get("distance"):
                fake = self._extract(self._generate(family))
                values["sample_distance_raw"] = self._energy_distance(fake)
            if self.rated:
                train, validation = (self._rate(family, part) for part in self.rated)
                if train is not None and validation is not None:
                    values["overfitting_auc"] = rank_probability(train, validation)
        return values

    def _generate(self, family: Family) -> Tensor:
        batch = self.batch.to_device(family.device, family.dtype)
        return family.generate(batch, Stream(self.seed, "samples"))

    def _extract(self, images: Tensor) -> _Features:
        is_points = self.extractor.name == "points"
        return _Features(images, *self.extractor(images if is_points else to_uint8(images)))

    def _rate(self, family: Family, batch: Batch) -> Tensor | None:
        """Return one logit per image [N]; patch logits are averaged."""
        logits = family.rate_reals(batch.to_device(family.device, family.dtype))
        return None if logits is None else logits.flatten(1).mean(1) if logits.dim() > 1 else logits

    def _measure_reals(self, family: Family) -> None:
        """Compute the statistics of the reals once, so that later ones do not synchronize."""
        if self._real is not None:
            return
        device = family.device
        self.groups = self.groups and [rows.to(device) for rows in self.groups]
        batch = self.batch.to_device(device, family.dtype)
        self._real = self._extract(batch.images)
        statistics = self._statistics(self._real)
        compared = self._real.features[:MAX_COMPARED_IMAGES]
        statistics["distance"] = mean_pairwise_distance(compared)
        if self._has_pixels:
            statistics["roughness"] = roughness(batch.images)
            statistics["repeats"] = self._near_copies(
                self._real.features, statistics["nearest_other"]
            )
        if self._has_colors:
            statistics["color_spread"] = color_spread(batch.images)
        if self.groups:
            self._real_class_distances = class_distances(self._real.features, self.groups)
        names = list(statistics)
        values = torch.stack([statistics[name].double() for name in names]).tolist()
        self._real_values = dict(zip(names, values, strict=True))

    @property
    def _has_pixels(self) -> bool:
        return self.extractor.name != "points"

    @property
    def _has_colors(self) -> bool:
        return self._has_pixels and self.batch.images.shape[1] == 3

    def _statistics(self, observed: _Features) -> dict[str, Tensor]:
        statistics = {"diversity": mean_pairwise_distance(observed.features, self.groups)}
        # for 2-D points, the distance to the nearest neighbor measures the width of a mode
        if self._has_pixels:
            statistics["nearest_other"] = mean_nearest_distance(observed.features, self.groups)
        if observed.logits is not None:
            statistics["class_entropy"] = entropy(observed.logits)
        return statistics

    def _compare(self, fake: _Features) -> dict[str, Tensor]:
        """Compute the columns of metrics.csv from the fakes and the statistics of the reals."""
        real = self._real_values
        values = {
            name: value / real[name]
            for name, value in self._statistics(fake).items()
            if real[name] > 0
        }
        if self.groups and self._real_class_distances is not None:
            of_reals = self._real_class_distances
            ratios = class_distances(fake.features, self.groups) / of_reals
            # a class with identical reals cannot collapse
            ratios = torch.where(of_reals > 0, ratios, torch.ones_like(ratios))
            values["class_diversity"] = ratios.min()
        if real.get("nearest_other"):
            copies = self._near_copies(fake.features, real["nearest_other"])
            values["repeats"] = (copies - real["repeats"]).clamp(min=0)
        if self._has_pixels and real["roughness"] < 1:
            values["noise"] = (roughness(fake.images) - real["roughness"]) / (1 - real["roughness"])
        if real.get("color_spread", 0.0) > MIN_COLOR_SPREAD:
            values["color_spread"] = color_spread(fake.images) / real["color_spread"]
        if real["distance"]:
            values["sample_distance"] = self._energy_distance(fake)
        return values

    def _energy_distance(self, fake: _Features) -> Tensor:
        assert self._real is not None
        features = self._real.features[:MAX_COMPARED_IMAGES]
        return energy_distance(
            fake.features[:MAX_COMPARED_IMAGES], features, self._real_values["distance"]
        )

    def _near_copies(self, features: Tensor, real_distance: Tensor | float) -> Tensor:
        """Compute the share of images with a near copy among the others (of their label)."""
        nearest = nearest_distances(features, self.groups)
        if not len(nearest):
            return features.new_zeros((), dtype=torch.float64)
        return (nearest < NEAR_COPY_FRACTION * real_distance).double().mean()


def _broadcast(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of rank 0 on all ranks.

    The statistics of batch norm in the raw networks differ between ranks, and a checkpoint has
    those of rank 0. The mean over ranks would differ after a resume.
    """
    if not values:
        return values
    packed = torch.stack([value.double() for value in values.values()])
    distributed.broadcast(packed, src=0)
    return dict(zip(values, packed.unbind(), strict=True))
