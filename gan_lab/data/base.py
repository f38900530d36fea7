"""The one data module: decoded arrays in, batches of the global order out."""

from __future__ import annotations

import sys
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
    table,
)
from gan_lab.data.split import PixelArray, Subset, halves
from gan_lab.images import Batch, ImageSpec, jitter, mirror, to_gray, to_unit
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


class Position(Protocol):
    """Where a training stands, which decides the images that are read next and how they are augmented.

    Every family is one: ``data.follow(family)`` connects the two before the training starts.
    """

    @property
    def iteration(self) -> int:
        """Completed iterations."""

    @property
    def branch(self) -> int:
        """Number of rollbacks so far: each branch of a run reads in another order."""

    @property
    def minibatches(self) -> int:
        """Minibatches of different images that one iteration reads."""

    @property
    def parts(self) -> int:
        """Micro-batches that each batch is divided into."""

    @property
    def shares(self) -> list[tuple[int, int]]:
        """For each micro-batch of this rank: its index among all shares of the global batch, and their number."""

    @property
    def dtype(self) -> torch.dtype | str:
        """Floating-point type of the images."""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""


class GANDataModule(LightningDataModule):
    """Serves training batches in the order of ``samplers.py``, held-out reals for the scores, and fixed ones for grids.

    What is held out has two parts: ``validation`` chooses checkpoints and settings, and ``test``, which chooses
    nothing, is what the scores of a finished run are of. A single held-out image is both.

    Raises UserError for keys that this data cannot serve.
    """

    def __init__(self, decoded: ArrayDataset, cfg: DataConfig, seed: int) -> None:
        super().__init__()
        self.decoded, self.cfg, self.seed = decoded, cfg, seed
        self.spec = self._spec()
        self.class_names = self._class_names()
        self.all_train = self._subset(
            decoded.train_images, decoded.train_labels, decoded.train_sources
        )
        self.train = self._few(self.all_train)
        if self.train is not self.all_train:
            self.decoded = replace(
                decoded,
                about=f"{decoded.about}; {len(self.train):,} of them learned from (data.images)",
            )
        self.held_out = self._subset(decoded.test_images, decoded.test_labels, decoded.test_sources)
        self.validation, self.test = self._divide(self.held_out, decoded.validation)
        self.labelled = self._choose_labelled() if cfg.labels_per_class else None
        self.iterations = 0  # where the training ends; set by the builder
        self._position: Position | None = None
        splits = {
            "train": self.all_train,
            "learned": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        self.facts = DataFacts(
            spec=self.spec,
            counts={name: len(split) for name, split in splits.items()},
            class_names=tuple(self.class_names),
            source=self.decoded.source,
            about=self.decoded.about,
            fingerprint=self.decoded.fingerprint,
            license=self.decoded.license,
        )

    def follow(self, position: Position) -> None:
        """Read the training batches from this position on; it is looked up at each batch."""
        self._position = position

    @property
    def position(self) -> Position:
        """The position of the training. Raises RuntimeError before ``follow``."""
        if self._position is None:
            raise RuntimeError(
                "No training to serve: call data.follow(family) before reading training batches."
            )
        return self._position

    def _subset(
        self, images: PixelArray, labels: np.ndarray | None, sources: PixelArray | None
    ) -> Subset:
        return Subset(
            images, labels if self.spec.classes else None, None if self.cfg.gray_input else sources
        )

    def _few(self, train: Subset) -> Subset:
        """``data.images`` of the training images, chosen once and for all: 100 are among 300."""
        if self.cfg.images is None or self.cfg.images >= len(train):
            return train
        rows = others = seeding.permutation(0, "few", 0, len(train))[: self.cfg.images]
        if train.sources is not None and self.spec.pairs != "all":
            others = seeding.permutation(0, "few sources", 0, len(train.sources))[: self.cfg.images]
        return train.at(rows, others)

    def _divide(self, held_out: Subset, validation: np.ndarray | None) -> tuple[Subset, Subset]:
        n = len(held_out)
        labels = None if held_out.labels is None else held_out.labels[np.arange(n)]
        parts = (
            halves(n, labels)
            if validation is None
            else (validation, np.setdiff1d(np.arange(n), validation))
        )
        others = parts
        if held_out.sources is not None and self.spec.pairs == "none":
            others = halves(len(held_out.sources))
        return held_out.at(parts[0], others[0]), held_out.at(parts[1], others[1])

    def subset(self, split: str) -> Subset:
        """The images of a split: train, validation, test, or those of train that are learned from (``data.images``)."""
        return {
            "train": self.all_train,
            "learned": self.train,
            "validation": self.validation,
            "test": self.test,
        }[split]

    @property
    def divided(self) -> bool:
        """True if validation and test are different images."""
        return len(self.held_out) > 1

    def available(self, split: str) -> int:
        """Count the reals to score against; of two sets that do not correspond, as many as the smaller has."""
        return len(self.reference(sys.maxsize, split=split).rows)

    @property
    def cache(self) -> Path:
        """Under which folder what is made of the data is kept: not under a folder of the user's own images."""
        own = self.cfg.name in USER_FOLDERS and self.facts.source == "full"
        return Path("data" if own else self.cfg.root)

    def _spec(self) -> ImageSpec:
        spec, cfg = self.decoded.spec, self.cfg
        if not cfg.labels or self.decoded.train_labels is None:
            spec = replace(spec, classes=0)
        if cfg.gray_input:
            if spec.channels not in (1, 3):
                raise UserError(
                    f"data.gray_input=true: images of {spec.channels} channels have no gray version"
                )
            content: Any = "photos" if spec.content == "horses" else spec.content
            spec = replace(spec, source_channels=1, pairs="all", content=content)
        if not cfg.paired:
            if spec.pairs == "none":
                raise UserError("data.paired=false: these data have no pairs to hide")
            if cfg.gray_input:
                raise UserError(
                    "data.paired=false: an image and its gray version, data.gray_input, are always a pair"
                )
            spec = replace(spec, pairs="held out")
        return spec

    def _class_names(self) -> list[str]:
        """``data.class_names``, or the data's own; none where there are no classes."""
        names = (
            self.cfg.class_names
            or [*self.decoded.class_names]
            or [str(label) for label in range(self.spec.classes)]
        )
        if self.spec.classes and len(names) != self.spec.classes:
            raise UserError(
                f"data.class_names={','.join(names)}: the data have {self.spec.classes} classes"
            )
        return names if self.spec.classes else []

    def _choose_labelled(self) -> np.ndarray:
        """The rows whose labels are shown: ``data.labels_per_class`` of each class, chosen by the seed."""
        wanted, labels = self.cfg.labels_per_class, self.train.labels
        if labels is None:
            raise UserError(f"data.labels_per_class={wanted}, but this data has no labels")
        order = seeding.permutation(self.seed, "labelled", 0, len(labels))
        rows = [order[labels[order] == label][:wanted] for label in range(self.spec.classes)]
        fewest = min(len(members) for members in rows)
        if fewest < wanted:
            raise UserError(f"data.labels_per_class={wanted}: a class has {fewest} images only")
        return np.concatenate(rows)

    def train_dataloader(self) -> DataLoader[Batch]:
        position = self.position
        rank, shares = position.shares[0]
        world = shares // position.parts
        n, span = (
            len(self.train),
            (position.iteration, self.iterations, rank, world, position.parts),
        )
        seed = self._branch_seed()
        order: EndlessBatchSampler
        if self.labelled is not None:
            order = SemiSupervisedBatchSampler(n, self.labelled, self.cfg.batch_size, seed, *span)
        elif self.train.sources is not None and self.spec.pairs != "all":
            order = UnpairedBatchSampler(
                n, len(self.train.sources), self.cfg.batch_size, seed, *span
            )
        else:
            order = EndlessBatchSampler(n, self.cfg.batch_size * position.minibatches, seed, *span)
        workers, device = self.cfg.workers, position.device
        gpu = device.type == "cuda"
        split = (
            self.train.on(device, self.cfg.device_gb * 1e9) if gpu and workers == 0 else self.train
        )
        return DataLoader(
            split, batch_sampler=order, collate_fn=_as_is, num_workers=workers, persistent_workers=workers > 0,
            pin_memory=gpu and workers > 0,
        )  # fmt: skip

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int = 0
    ) -> Batch:
        """All of the batch on the device, without Lightning's walk over types."""
        return batch.on(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """To [-1, 1], shifted and mirrored by chance, whole batches at a time, on the device."""
        position = self.position
        batch = self.in_range(batch).map(lambda images: images.to(position.dtype))
        if not (self.cfg.jitter or self.cfg.flip):
            return batch
        seed, n = self._branch_seed(), len(batch.images) // position.parts
        images, sources, alike = batch.images, batch.sources, self.spec.pairs == "all"

        def draw(purpose: str, *columns: int) -> list[Tensor]:
            """Numbers for the images, and for the sources: the same where these are their counterparts."""
            streams = [
                Stream(seed, purpose, position.iteration, *share) for share in position.shares
            ]
            drawn = torch.cat([stream.uniform(n, 2, *columns, like=images) for stream in streams])
            return [drawn[:, 0], drawn[:, 0 if alike else 1]]

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
        """The seed of what the training reads: another in each branch of a run."""
        return seeding.branch_seed(self.seed, self.position.branch)

    def in_range(self, batch: Batch) -> Batch:
        """A batch of the data with images in [-1, 1], and gray ones as its inputs where these are asked for."""
        batch = batch.map(to_unit)
        return batch._replace(sources=to_gray(batch.images)) if self.cfg.gray_input else batch

    def reference(self, n: int, size: int | None = None, split: str = "test") -> Reference:
        """Up to n reals of a split, in batches of ``size`` and in an order that never changes.

        Sources that are no counterparts have an order of their own, and where there are fewer of them, so many.
        """
        reals = self.subset(split)
        if size is None:  # 100 images of 64 x 64, and as many pixels of larger ones
            size = max(1, min(100, 100 * 64 * 64 // (self.spec.height * self.spec.width)))
        rows = seeding.permutation(0, "reference", 0, len(reals))[:n]
        if reals.sources is not None and self.spec.pairs == "none":
            others = seeding.permutation(0, "reference of sources", 0, len(reals.sources))[:n]
            n = min(len(rows), len(others))
            rows = table(rows[:n], others[:n])
        name = (
            "train"
            if reals is self.all_train
            else f"{split} {len(reals)}"
            if split == "learned"
            else split
        )
        return Reference(reals, rows, size, self, name)

    def grid_batch(self, held_out: bool, by_class: bool) -> tuple[Batch, int]:
        """A batch for a grid and its number of columns: 8 x 8, or one row for each of the first ten classes.

        Where too few are held out, training images fill it up.
        """
        split = self.held_out if held_out else self.train
        rows = seeding.permutation(0, "grid", 0, len(split))
        if by_class:
            batch = _concatenate(
                [self._for_grid(held_out, 10, label) for label in range(min(self.spec.classes, 10))]
            )
        elif self.spec.content != "points" and split.sources is None:
            batch = self._for_grid(held_out, 64)
        else:
            rows = rows[: 1000 if self.spec.content == "points" else 64]
            if split.sources is not None and self.spec.pairs == "none":
                rows = table(rows, np.resize(np.arange(len(split.sources)), len(rows)))
            batch = split.__getitems__(rows.tolist())
        return self.in_range(batch), 10 if by_class else 8

    def _for_grid(self, held_out: bool, n: int, label: int | None = None) -> Batch:
        """n images, of one label: held-out ones, then those of the training, then these over again."""
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
    """Images and labels of several batches."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Batch(torch.cat([part.images for part in parts]), torch.cat(labels) if labels else None)


def _as_is(batch: Any) -> Any:
    return batch
