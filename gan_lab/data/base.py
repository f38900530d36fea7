"""The one data module: decoded arrays in, batches of the global order out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gan_lab import seeding
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.schema import DataConfig


class Pixels(Protocol):
    """Images uint8 [N, C, H, W] (points: float in [-1, 1]), of which rows are read: an array, or files not yet decoded."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass
class Decoded:
    """A data set: images, their labels [N] int64 where it has any, and the sources where it is about translation.

    ``spec.pairs`` says where sources and images correspond; where they do not, their numbers may differ.
    """

    spec: ImageSpec
    train_images: Pixels
    train_labels: np.ndarray | None
    test_images: Pixels
    test_labels: np.ndarray | None
    source: str  # full or sample
    about: str  # one line for the user: which data, and why
    fingerprint: str
    train_sources: Pixels | None = None
    test_sources: Pixels | None = None


class Split(Dataset[Batch]):
    """Images, labels and sources, of which whole batches are gathered at once.

    A row is a number, or (number of the image, number of the source) where they do not correspond.
    """

    def __init__(self, images: Pixels, labels: np.ndarray | None, sources: Pixels | None) -> None:
        self.images, self.labels, self.sources = images, labels, sources

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: Sequence[int] | Sequence[tuple[int, int]]) -> Batch:
        numbers = np.asarray(rows, dtype=np.int64).reshape(len(rows), -1)
        images = torch.from_numpy(self.images[numbers[:, 0]])
        labels = None if self.labels is None else torch.from_numpy(self.labels[numbers[:, 0]])
        sources = None if self.sources is None else torch.from_numpy(self.sources[numbers[:, -1]])
        return Batch(images, labels, sources)


class Order(Sampler[list[int]]):
    """The rows of each iteration: a new order of the whole set for each pass, batches running on across its border.

    A pure function of (seed, iteration): a resumed run goes on with the next unseen image, and rank r of N reads the
    r-th part of what one process would read.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world
        self._pass, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world
        for iteration in range(self.start, self.stop):
            yield self.rows(iteration)[self.rank * share : (self.rank + 1) * share].tolist()

    def rows(self, iteration: int) -> np.ndarray:
        """The rows of the global batch, [batch_size]."""
        begin, end = iteration * self.batch_size, (iteration + 1) * self.batch_size
        parts = []
        while begin < end:
            number, offset = divmod(begin, self.n)
            if number != self._pass:
                self._pass, self._order = number, seeding.permutation(self.seed, "order", number, self.n)
            parts.append(self._order[offset : offset + end - begin])
            begin += len(parts[-1])
        return np.concatenate(parts)


class LabData(LightningDataModule):
    """Serves training batches in the order of ``Order``, held-out reals for the scores, and fixed batches for grids."""

    def __init__(self, decoded: Decoded, cfg: DataConfig, seed: int) -> None:
        super().__init__()
        self.decoded, self.cfg, self.seed = decoded, cfg, seed
        self.spec = decoded.spec if cfg.labels else replace(decoded.spec, classes=0)
        self.train = Split(decoded.train_images, decoded.train_labels, cfg.labels)
        self.test = Split(decoded.test_images, decoded.test_labels, cfg.labels)
        self.iterations = 0  # where the training ends; set by the experiment

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        start = int(self.trainer.lightning_module.iteration)  # type: ignore[arg-type]
        rank, world = self.trainer.global_rank, self.trainer.world_size
        order = Order(len(self.train), self.cfg.batch_size, self.seed, start, self.iterations, rank, world)
        workers = self.cfg.workers
        return DataLoader(
            self.train, batch_sampler=order, collate_fn=_as_is, num_workers=workers, persistent_workers=workers > 0
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """To [-1, 1], whole batches at a time, on the device."""
        assert self.trainer is not None
        return Batch(to_unit(batch.images).to(self.trainer.lightning_module.dtype), batch.labels)

    def reference(self, n: int, size: int = 100) -> list[Batch]:
        """Up to n held-out reals in [-1, 1], in batches of ``size`` in an order that never changes."""
        rows = seeding.permutation(0, "reference", 0, len(self.test))[:n]
        batches = [self.test.__getitems__(rows[i : i + size].tolist()) for i in range(0, len(rows), size)]
        return [Batch(to_unit(batch.images), batch.labels) for batch in batches]

    def fixed(self, held_out: bool, by_class: bool) -> tuple[Batch, int]:
        """A batch for a grid and its number of columns: 8 x 8, or one row for each of the first ten classes."""
        split = self.test if held_out else self.train
        rows = seeding.permutation(0, "grid", 0, len(split))
        columns = 10 if by_class else 8
        if self.spec.content == "points":
            rows = rows[:1000]
        elif not by_class:
            rows = rows[:64]
        else:
            assert split.labels is not None
            labels = split.labels.numpy()[rows]
            rows = np.concatenate([rows[labels == c][:columns] for c in range(min(self.spec.classes, 10))])
        batch = split.__getitems__(rows.tolist())
        return Batch(to_unit(batch.images), batch.labels), columns


def _as_is(batch: Any) -> Any:
    return batch


def stratified(labels: np.ndarray, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows held out, ``held_out`` of each class, chosen once and for all."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    train = np.concatenate([order[held_out:] for order in orders])
    test = np.concatenate([order[:held_out] for order in orders])
    return np.sort(train), np.sort(test)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images uint8 [N, C, H, W] as uint8 [N, C, size, size], bilinear with antialias."""
    if images.shape[-2:] == (size, size):
        return images
    pixels: Tensor = torch.from_numpy(images).float()
    pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels.clamp(0, 255).round().to(torch.uint8).numpy()
