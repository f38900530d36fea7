"""Subsets of a data set, whose pixels are in an array, in files or on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gan_lab import seeding
from gan_lab.data.samplers import Row, stack_rows
from gan_lab.images import Batch
from gan_lab.seeding import send_to_device


class PixelArray(Protocol):
    """Images uint8 [N, C, H, W] (points: float in [-1, 1]), read by row: an array or lazy files."""

    def __len__(self) -> int: ...

    # Returns an array, or a Tensor if the pixels are on a device.
    def __getitem__(self, rows: np.ndarray, /) -> Any: ...


@dataclass(frozen=True)
class SelectedRows:
    """A view of selected rows and channels of another pixel array."""

    pixels: PixelArray
    rows: np.ndarray
    # Start and stop.
    channels: tuple[int, int | None] = (0, None)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> float:
        """Size of the decoded array in bytes; infinite if the files are decoded on the fly."""
        return getattr(self.pixels, "nbytes", math.inf) * len(self.rows) / max(1, len(self.pixels))

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self.pixels[self.rows[rows]][:, slice(*self.channels)]


class Subset(Dataset[Batch]):
    """Images, labels and sources, which are read as whole batches.

    A row is the index of an image, or a ``Row`` if its source has another index or its label is
    hidden.
    """

    def __init__(
        self, images: PixelArray, labels: np.ndarray | None, sources: PixelArray | None
    ) -> None:
        self.images, self.labels, self.sources = images, labels, sources

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: Sequence[int] | Sequence[Row], images: bool = True) -> Batch:
        numbers = np.asarray(rows, dtype=np.int64)
        image, source, label_hidden = (stack_rows(numbers) if numbers.ndim == 1 else numbers).T
        labels = (
            None
            if self.labels is None
            else torch.from_numpy(np.where(label_hidden, -1, self.labels[image]))
        )
        sources = None if self.sources is None else _read(self.sources, source)
        read = _read(self.images, image) if images else torch.empty(0)
        return Batch(read, labels, sources, alternating_labels=bool(label_hidden.any()))

    def select(self, images: np.ndarray, sources: np.ndarray) -> Subset:
        """Select images with their labels, and sources, by row and without a copy."""
        labels = None if self.labels is None else self.labels[images]
        selected = None if self.sources is None else SelectedRows(self.sources, sources)
        return Subset(SelectedRows(self.images, images), labels, selected)

    def to_device(self, device: torch.device, max_bytes: float) -> Subset:
        """Copy the pixels to a device if they are decoded and take at most ``max_bytes``."""
        arrays = [self.images] if self.sources is None else [self.images, self.sources]
        if sum(getattr(pixels, "nbytes", math.inf) for pixels in arrays) > max_bytes:
            return self
        sources = None if self.sources is None else DeviceArray(self.sources, device)
        return Subset(DeviceArray(self.images, device), self.labels, sources)


class DeviceArray:
    """Images in device memory, where their rows are gathered as well."""

    def __init__(self, pixels: PixelArray, device: torch.device) -> None:
        self.pixels = torch.from_numpy(np.asarray(pixels[np.arange(len(pixels))])).to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray, /) -> Tensor:
        return self.pixels[send_to_device(torch.from_numpy(rows), self.pixels.device)]


def _read(pixels: PixelArray, rows: np.ndarray) -> Tensor:
    read = pixels[rows]
    return read if isinstance(read, Tensor) else torch.from_numpy(np.asarray(read))


def group_rows(labels: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each label, ascending, in the order of the labels.

    The time does not depend on the number of labels.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.unique(labels[order], return_index=True)[1]
    return np.split(order, starts[1:])


def stratified_split(labels: np.ndarray, *counts: int) -> list[np.ndarray]:
    """Return one sorted set of rows per count, with that many of each class, then all others.

    The split does not depend on the seed.
    """
    rng = np.random.default_rng(0)
    orders = [rng.permutation(rows) for rows in group_rows(labels)]
    parts_of_class = [np.split(order, np.cumsum(counts)) for order in orders]
    return [np.sort(np.concatenate(parts)) for parts in zip(*parts_of_class, strict=True)]


def split_in_half(n: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Divide n held-out rows into validation and test rows, alternating within each class.

    The order is fixed. If n is odd, the test set has one more; a single row is in both.
    """
    order = seeding.permutation(0, "validation", 0, n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    test, validation = np.sort(order[::2]), np.sort(order[1::2])
    return (validation if len(validation) else test), test
