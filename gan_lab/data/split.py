"""Rows of a data set as batches, from wherever its pixels are."""

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
from gan_lab.data.samplers import Row, table
from gan_lab.images import Batch
from gan_lab.seeding import send_to_device


class PixelArray(Protocol):
    """Images uint8 [N, C, H, W] (points: float in [-1, 1]), read by rows: an array, or files not yet decoded."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> Any: ...  # a Tensor where they lie on a device


@dataclass(frozen=True)
class Rows:
    """Some rows of other pixels, and some of their channels, without a copy."""

    pixels: PixelArray
    rows: np.ndarray
    channels: tuple[int, int | None] = (0, None)  # from, to

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> float:
        """Size of the decoded array; infinite if the files are read one by one."""
        return getattr(self.pixels, "nbytes", math.inf) * len(self.rows) / max(1, len(self.pixels))

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self.pixels[self.rows[rows]][:, slice(*self.channels)]


class Subset(Dataset[Batch]):
    """Images, labels and sources; whole batches are gathered at once.

    A row is the number of an image, or a ``Row`` where its source has another number or its label is hidden.
    """

    def __init__(
        self, images: PixelArray, labels: np.ndarray | None, sources: PixelArray | None
    ) -> None:
        self.images, self.labels, self.sources = images, labels, sources

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: Sequence[int] | Sequence[Row], images: bool = True) -> Batch:
        numbers = np.asarray(rows, dtype=np.int64)
        image, source, label_hidden = (table(numbers) if numbers.ndim == 1 else numbers).T
        labels = (
            None
            if self.labels is None
            else torch.from_numpy(np.where(label_hidden, -1, self.labels[image]))
        )
        sources = None if self.sources is None else _read(self.sources, source)
        read = _read(self.images, image) if images else torch.empty(0)
        return Batch(read, labels, sources, by_turns=bool(label_hidden.any()))

    def at(self, images: np.ndarray, sources: np.ndarray) -> Subset:
        """The images at some rows, with their labels, and the sources at others, without a copy."""
        labels = None if self.labels is None else self.labels[images]
        held = None if self.sources is None else Rows(self.sources, sources)
        return Subset(Rows(self.images, images), labels, held)

    def on(self, device: torch.device, room: float) -> Subset:
        """With the images and the sources in the memory of a device, if they are decoded and take at most ``room`` bytes."""
        held = [self.images] if self.sources is None else [self.images, self.sources]
        if sum(getattr(pixels, "nbytes", math.inf) for pixels in held) > room:
            return self
        sources = None if self.sources is None else Resident(self.sources, device)
        return Subset(Resident(self.images, device), self.labels, sources)


class Resident:
    """Images in the memory of a device, where their rows are gathered as well."""

    def __init__(self, pixels: PixelArray, device: torch.device) -> None:
        self.pixels = torch.from_numpy(np.asarray(pixels[np.arange(len(pixels))])).to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray, /) -> Tensor:
        return self.pixels[send_to_device(torch.from_numpy(rows), self.pixels.device)]


def _read(pixels: PixelArray, rows: np.ndarray) -> Tensor:
    read = pixels[rows]
    return read if isinstance(read, Tensor) else torch.from_numpy(np.asarray(read))


def stratified_split(labels: np.ndarray, *counts: int) -> list[np.ndarray]:
    """Rows of so many of each class for each count, and last all others, chosen once and for all."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    parts = zip(*(np.split(order, np.cumsum(counts)) for order in orders), strict=True)
    return [np.sort(np.concatenate(part)) for part in parts]


def halves(n: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The rows of ``validation`` and of ``test`` among n held-out ones: every second of each class in a fixed order.

    Of an odd number test has one more; a single one is in both.
    """
    order = seeding.permutation(0, "validation", 0, n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    test, validation = np.sort(order[::2]), np.sort(order[1::2])
    return (validation if len(validation) else test), test
