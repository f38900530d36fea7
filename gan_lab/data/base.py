"""The data module: turns decoded arrays into the batches of the global sample order."""

from __future__ import annotations

import math
import sys
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lab import seeding
from gan_lab.config.schema import USER_FOLDERS, DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.facts import DataFacts
from gan_lab.data.reference import Reference
from gan_lab.data.samplers import (
    EndlessBatchSampler,
    SemiSupervisedBatchSampler,
    UnpairedBatchSampler,
    stack_rows,
)
from gan_lab.data.split import PixelArray, Subset, split_in_half
from gan_lab.degradations import STREAM_PURPOSE, Degradation
from gan_lab.images import Batch, ImageSpec, jitter, mirror, to_unit
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

# Images of the health check: with labels, classes and images of each class at least
MAX_HEALTH_CLASSES = 100
MIN_HEALTH_IMAGES_PER_CLASS = 4
# training and validation images that the discriminator rates, and their pixel values at most
MAX_RATED_IMAGES = 256
MAX_RATED_PIXELS = 2**22


class TrainingPosition(Protocol):
    """Progress of a training run, which decides the next images and their augmentation.

    Every family implements it: ``data.follow(family)`` connects the two before training starts.
    """

    @property
    def iteration(self) -> int:
        """Completed iterations."""

    @property
    def branch(self) -> int:
        """Number of rollbacks so far. Each branch of a run reads in a different order."""

    @property
    def minibatches(self) -> int:
        """Number of minibatches of different images per iteration."""

    @property
    def parts(self) -> int:
        """Number of micro-batches per batch (gradient accumulation)."""

    @property
    def shares(self) -> list[tuple[int, int]]:
        """For each micro-batch of this rank: its index in the global batch, and their number."""

    @property
    def dtype(self) -> torch.dtype | str:
        """Floating-point type of the images."""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""


class GANDataModule(LightningDataModule):
    """Serves training batches, the reals that scores compare against, and fixed reals for grids.

    Held-out images are divided into a validation set, for the selection of checkpoints and
    settings, and a test set, for the reported scores. A single held-out image is in both.

    Raises:
        UserError: A configuration key does not apply to this data set.
    """

    def __init__(self, decoded: ArrayDataset, cfg: DataConfig, seed: int) -> None:
        super().__init__()
        self.decoded = decoded
        self.cfg = cfg
        self.seed = seed
        self.degradation = Degradation.from_config(cfg)
        self.spec = self._spec()
        self.class_names = self._class_names()
        self.all_train = self._subset(
            decoded.train_images, decoded.train_labels, decoded.train_sources
        )
        self.train = self._choose_train_images(self.all_train)
        if self.train is not self.all_train:
            self.decoded = replace(
                decoded,
                about=f"{decoded.about}; training on {len(self.train):,} of them (data.images)",
            )
        self.held_out = self._subset(decoded.test_images, decoded.test_labels, decoded.test_sources)
        self.validation, self.test = self._split_held_out(self.held_out, decoded.validation)
        self.labelled = self._choose_labelled() if cfg.labels_per_class else None
        # The last iteration of the run. The builder sets it.
        self.iterations = 0
        self._position: TrainingPosition | None = None
        self._subsets = {
            "train": self.all_train,
            "learned": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        self.facts = DataFacts(
            spec=self.spec,
            counts={name: len(split) for name, split in self._subsets.items()},
            class_names=tuple(self.class_names),
            source=self.decoded.source,
            about=self.decoded.about,
            fingerprint=self.decoded.fingerprint,
            license=self.decoded.license,
            levels=tuple(self.decoded.levels),
            files=self.decoded.files,
        )

    def follow(self, position: TrainingPosition) -> None:
        """Read the training batches from this position. It is looked up for each batch."""
        self._position = position

    @property
    def position(self) -> TrainingPosition:
        """Progress of the training run. Raises RuntimeError before ``follow``."""
        if self._position is None:
            raise RuntimeError(
                "No training run is connected. Call data.follow(family) before reading batches."
            )
        return self._position

    def _subset(
        self, images: PixelArray, labels: np.ndarray | None, sources: PixelArray | None
    ) -> Subset:
        return Subset(
            images, labels if self.spec.classes else None, None if self.degradation else sources
        )

    def _choose_train_images(self, train: Subset) -> Subset:
        """Choose ``data.images`` training images, independent of the seed.

        Smaller subsets are nested: the 100 images of ``data.images=100`` are among those of 300.
        """
        if self.cfg.images is None or self.cfg.images >= len(train):
            return train
        rows = seeding.permutation(0, "few", 0, len(train))[: self.cfg.images]
        source_rows = rows
        if train.sources is not None and self.spec.pairs != "all":
            order = seeding.permutation(0, "few sources", 0, len(train.sources))
            source_rows = order[: self.cfg.images]
        return train.select(rows, source_rows)

    def _split_held_out(
        self, held_out: Subset, validation: np.ndarray | None
    ) -> tuple[Subset, Subset]:
        n = len(held_out)
        if validation is None:
            validation, test = split_in_half(n, held_out.labels)
        else:
            test = np.setdiff1d(np.arange(n), validation)
        validation_sources, test_sources = validation, test
        if held_out.sources is not None and self.spec.pairs == "none":
            validation_sources, test_sources = split_in_half(len(held_out.sources))
        return held_out.select(validation, validation_sources), held_out.select(test, test_sources)

    def subset(self, split: str) -> Subset:
        """The images of a split: train, validation, test, or learned.

        "learned" is the subset of train that the model is trained on (``data.images``).
        """
        return self._subsets[split]

    @property
    def divided(self) -> bool:
        """True if the validation set and the test set are different images."""
        return len(self.held_out) > 1

    def available(self, split: str) -> int:
        """Count the reals to score against: for unpaired sets, the size of the smaller one."""
        return len(self.reference(sys.maxsize, split=split).rows)

    @property
    def cache(self) -> Path:
        """The folder for results computed from the data: never a folder of the user's images."""
        is_user_folder = self.cfg.name in USER_FOLDERS and self.facts.source == "full"
        return Path("data" if is_user_folder else self.cfg.root)

    def _spec(self) -> ImageSpec:
        spec, cfg = self.decoded.spec, self.cfg
        if not cfg.labels or self.decoded.train_labels is None:
            spec = replace(spec, classes=0)
        if self.degradation:
            spec = self.degradation.describe_sources(spec)
        if not cfg.paired:
            if spec.pairs == "none":
                raise UserError(
                    "data.paired=false needs a paired data set, but this one is not. Remove the "
                    "key."
                )
            if self.degradation:
                raise UserError(
                    f"data.paired=false does not apply to data.degradation={cfg.degradation}: an "
                    "image and its degraded version are always a pair. Remove one of the two keys."
                )
            spec = replace(spec, pairs="held out")
        return spec

    def _class_names(self) -> list[str]:
        """Return ``data.class_names`` or those of the data set; an empty list without classes."""
        if not self.spec.classes:
            return []
        names = (
            self.cfg.class_names
            or [*self.decoded.class_names]
            or [str(label) for label in range(self.spec.classes)]
        )
        if len(names) != self.spec.classes:
            raise UserError(
                f"data.class_names={','.join(names)} has {len(names)} names, but the data set has "
                f"{self.spec.classes} classes. Name each class once."
            )
        warn_of_similar_names(names)
        return names

    def _choose_labelled(self) -> np.ndarray:
        """Choose the labeled rows: ``data.labels_per_class`` per class, sampled with the seed."""
        wanted, labels = self.cfg.labels_per_class, self.train.labels
        if labels is None:
            raise UserError(
                f"data.labels_per_class={wanted} needs labels, but the data set has none. "
                "Remove the key, or choose a labeled data set."
            )
        order = seeding.permutation(self.seed, "labelled", 0, len(labels))
        rows = [order[labels[order] == label][:wanted] for label in range(self.spec.classes)]
        fewest = min(len(members) for members in rows)
        if fewest < wanted:
            raise UserError(
                f"data.labels_per_class={wanted} is more than the smallest class has: {fewest} "
                f"images. Use at most {fewest}."
            )
        return np.concatenate(rows)

    def train_dataloader(self) -> DataLoader[Batch]:
        position = self.position
        rank, shares = position.shares[0]
        world = shares // position.parts
        n = len(self.train)
        batch_size = self.cfg.batch_size
        seed = self._branch_seed()
        span = (position.iteration, self.iterations, rank, world, position.parts)
        sampler: EndlessBatchSampler
        if self.labelled is not None:
            sampler = SemiSupervisedBatchSampler(n, self.labelled, batch_size, seed, *span)
        elif self.train.sources is not None and self.spec.pairs != "all":
            sampler = UnpairedBatchSampler(n, len(self.train.sources), batch_size, seed, *span)
        else:
            sampler = EndlessBatchSampler(n, batch_size * position.minibatches, seed, *span)
        workers = self.cfg.workers
        is_gpu = position.device.type == "cuda"
        split = self.train
        if is_gpu and workers == 0:
            split = split.to_device(position.device, self.cfg.device_gb * 1e9)
        return DataLoader(
            split,
            batch_sampler=sampler,
            collate_fn=_return_batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=is_gpu and workers > 0,
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int = 0
    ) -> Batch:
        """Move the batch without Lightning's recursive traversal."""
        return batch.to_device(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Scale to [-1, 1], then crop, flip and degrade at random: whole batches, on the device."""
        position = self.position
        batch = batch.map(lambda images: to_unit(images).to(position.dtype))
        if self.cfg.jitter or self.cfg.flip:
            batch = self._augment(batch)
        if self.degradation:
            seed = self._branch_seed()
            streams = [
                Stream(seed, STREAM_PURPOSE, position.iteration, *share)
                for share in position.shares
            ]
            # in float32, as in evaluations
            sources = self.degradation.degrade(batch.images.float(), streams)
            batch = batch._replace(sources=sources.to(position.dtype))
        return batch

    def _augment(self, batch: Batch) -> Batch:
        """Crop and flip images at random, and the sources of pairs with them."""
        position = self.position
        seed = self._branch_seed()
        n = len(batch.images) // position.parts
        images, sources = batch.images, batch.sources
        is_paired = self.spec.pairs == "all"

        def draw(purpose: str, *columns: int) -> list[Tensor]:
            """Sample numbers for the images and for the sources, which are equal for pairs."""
            streams = [
                Stream(seed, purpose, position.iteration, *share) for share in position.shares
            ]
            drawn = torch.cat([stream.uniform(n, 2, *columns, like=images) for stream in streams])
            return [drawn[:, 0], drawn[:, 0 if is_paired else 1]]

        if self.cfg.jitter:
            corners = draw("jitter", 2)
            images = jitter(images, self.cfg.jitter, corners[0])
            sources = None if sources is None else jitter(sources, self.cfg.jitter, corners[1])
        if self.cfg.flip:
            which = [drawn < 0.5 for drawn in draw("flip")]
            images = mirror(images, which[0])
            sources = None if sources is None else mirror(sources, which[1])
        return batch._replace(images=images, sources=sources)

    def _branch_seed(self) -> int:
        """Return the seed of the sample order, which is different in each branch of a run."""
        return seeding.branch_seed(self.seed, self.position.branch)

    def in_range(self, batch: Batch) -> Batch:
        """Scale a batch to [-1, 1] and add the inputs of ``data.degradation``.

        Those of a training batch are random instead, see ``on_after_batch_transfer``.
        """
        pixels = batch.images
        batch = batch.map(to_unit)
        if not self.degradation:
            return batch
        return batch._replace(sources=self.degradation.degrade_fixed(batch.images, pixels))

    def reference(self, n: int, size: int | None = None, split: str = "test") -> Reference:
        """Return up to n reals of a split, in batches of ``size`` and in a fixed order.

        Unpaired sources have their own order; the smaller of the two sets limits n.
        """
        reals = self.subset(split)
        if size is None:
            # As many pixels as 100 images of 64 x 64.
            size = max(1, min(100, 100 * 64 * 64 // (self.spec.height * self.spec.width)))
        rows = seeding.permutation(0, "reference", 0, len(reals))[:n]
        if reals.sources is not None and self.spec.pairs == "none":
            others = seeding.permutation(0, "reference of sources", 0, len(reals.sources))[:n]
            n = min(len(rows), len(others))
            rows = stack_rows(rows[:n], others[:n])
        name = split
        if reals is self.all_train:
            name = "train"
        elif split == "learned":
            name = f"{split} {len(reals)}"
        return Reference(reals, rows, size, self, name)

    @property
    def grid_classes(self) -> list[int]:
        """The classes of a grid by class: the first ten that have training images."""
        assert self.train.labels is not None
        return [label for label in np.unique(self.train.labels).tolist() if label >= 0][:10]

    def grid_batch(self, held_out: bool, by_class: bool) -> tuple[Batch, int]:
        """Return a batch for a grid and its number of columns.

        The grid is 8 x 8, or one row for each of the first ten classes that have training images.
        If there are too few held-out images, training images complete it.
        """
        split = self.held_out if held_out else self.train
        if by_class:
            shown_classes = self.grid_classes
            batch = _concatenate(
                [self._choose_grid_images(held_out, 10, label) for label in shown_classes]
            )
        elif self.spec.content != "points" and split.sources is None:
            batch = self._choose_grid_images(held_out, 64)
        else:
            count = 1000 if self.spec.content == "points" else 64
            rows = seeding.permutation(0, "grid", 0, len(split))[:count]
            if split.sources is not None and self.spec.pairs == "none":
                rows = stack_rows(rows, np.resize(np.arange(len(split.sources)), len(rows)))
            batch = split.__getitems__(rows.tolist())
        return self.in_range(batch), 10 if by_class else 8

    def health_batch(self, by_class: bool) -> Batch:
        """Return the held-out images that the health check compares samples with.

        They are those of the grid; but with labels, of all classes: ten images of each of up to ten
        classes, fewer of more classes, and of up to ``MAX_HEALTH_CLASSES`` classes at equal
        distances.
        """
        if not by_class:
            return self.grid_batch(held_out=True, by_class=False)[0]
        assert self.train.labels is not None
        labels = [label for label in np.unique(self.train.labels).tolist() if label >= 0]
        count = min(len(labels), MAX_HEALTH_CLASSES)
        chosen = [labels[i * len(labels) // count] for i in range(count)]
        images = max(MIN_HEALTH_IMAGES_PER_CLASS, 10 if count <= 10 else 100 // count)
        parts = [self._choose_grid_images(True, images, label) for label in chosen]
        return self.in_range(_concatenate(parts))

    def rated_batches(self) -> tuple[Batch, Batch]:
        """Return images that the model learns from, and validation images, up to 256 of each.

        Of large images there are fewer, since they stay in memory.
        """
        n = min(MAX_RATED_IMAGES, max(32, MAX_RATED_PIXELS // math.prod(self.spec.shape)))
        parts = [self.reference(n, n, split) for split in ("learned", "validation")]
        train, validation = (part[0] if len(part) else self._empty_batch() for part in parts)
        return train, validation

    def _empty_batch(self) -> Batch:
        return Batch(torch.zeros(0, *self.spec.shape))

    def _choose_grid_images(self, held_out: bool, n: int, label: int | None = None) -> Batch:
        """Choose n images, of one label if given: held-out, then training images, then repeats."""
        parts, count = [], 0
        for split in (self.held_out, self.train) if held_out else (self.train,):
            rows = seeding.permutation(0, "grid", 0, len(split))
            if label is not None:
                assert split.labels is not None
                rows = rows[split.labels[rows] == label]
            if len(rows) and count < n:
                parts.append(split.__getitems__(rows[: n - count].tolist()))
                count += min(len(rows), n - count)
        again = torch.arange(n if held_out or label is not None else count) % count
        batch = _concatenate(parts)
        return Batch(batch.images[again], None if batch.labels is None else batch.labels[again])


def _concatenate(parts: Sequence[Batch]) -> Batch:
    """Concatenate the images and labels of several batches."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Batch(torch.cat([part.images for part in parts]), torch.cat(labels) if labels else None)


def _return_batch(batch: Any) -> Any:
    """Return the batch unchanged: ``Subset.__getitems__`` collates already."""
    return batch


def warn_of_similar_names(names: Sequence[str]) -> None:
    """Warn of class names that differ only in case, Unicode form, spaces, dots or leading zeros."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold().strip(" .")
        groups[plain.lstrip("0") or plain].append(name)
    for group in groups.values():
        if len({*group}) > 1:
            warnings.warn(
                f"the class names {', '.join(map(repr, group))} hardly differ. "
                "If they are the same class, merge their images",
                stacklevel=3,
            )
