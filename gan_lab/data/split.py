"""Rows of a data set as batches, from wherever its pixels are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gan_lab.data.samplers import Row, table
from gan_lab.images import Batch
from gan_lab.seeding import send_to_device


class PixelArray(Protocol):
    """Images uint8 [N, C, H, W] (points: float in [-1, 1]), read by rows: an array, or files not yet decoded."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> Any: ...  # a Tensor where they lie on a device


class Subset(Dataset[Batch]):
    """Images, labels and sources; whole batches are gathered at once.

    A row is the number of an image, or a ``Row`` where its source has another number or its label is hidden.
    """

    def __init__(self, images: PixelArray, labels: np.ndarray | None, sources: PixelArray | None) -> None:
        self.images, self.labels, self.sources = images, labels, sources

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: Sequence[int] | Sequence[Row], images: bool = True) -> Batch:
        numbers = np.asarray(rows, dtype=np.int64)
        image, source, label_hidden = (table(numbers) if numbers.ndim == 1 else numbers).T
        labels = None if self.labels is None else torch.from_numpy(np.where(label_hidden, -1, self.labels[image]))
        sources = None if self.sources is None else _read(self.sources, source)
        read = _read(self.images, image) if images else torch.empty(0)
        return Batch(read, labels, sources, by_turns=bool(label_hidden.any()))

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
