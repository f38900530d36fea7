"""Reals to compare with, in batches that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gan_lab.data.split import Subset
from gan_lab.images import Batch, to_unit

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule


class Reference(Sequence[Batch]):
    """Reals to compare with, in batches [-1, 1] that are read when they are asked for."""

    def __init__(
        self, split: Subset, rows: np.ndarray, size: int, data: GANDataModule, name: str
    ) -> None:
        self.split, self.rows, self.size, self.data, self.name = split, rows, size, data, name

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, i: Any) -> Any:
        return self.data.in_range(self.split.__getitems__(self._rows(i)))

    @property
    def labels(self) -> np.ndarray:
        """The label of each row, of data that have labels."""
        assert self.split.labels is not None
        return self.split.labels[self.rows]

    def wrapped(self, start: int, stop: int) -> Reference:
        """The rows from ``start`` to ``stop`` of an endless repetition of these, which come again after the last."""
        return self._with(np.take(self.rows, np.arange(start, stop), axis=0, mode="wrap"))

    def with_labels(self, labels: np.ndarray) -> Reference:
        """As many of each label as stand in ``labels`` [N], as far as there are."""
        of_label = {label: self.rows[self.labels == label] for label in np.unique(labels)}
        return self._with(
            np.concatenate([rows[: np.sum(labels == label)] for label, rows in of_label.items()])
        )

    def _with(self, rows: np.ndarray) -> Reference:
        return Reference(self.split, rows, self.size, self.data, self.name)

    def conditions(self, i: int) -> Batch:
        """Batch i without its images, which are zeros: what a generator is asked for by labels and sources."""
        if self.data.cfg.gray_input:  # the sources are made of the images
            return self[i]._replace(images=self._zeros(i))
        batch = self.split.__getitems__(self._rows(i), images=False)
        return batch._replace(images=self._zeros(i)).map(to_unit)

    def _rows(self, i: int) -> list[Any]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        rows: list[Any] = self.rows[i * self.size : (i + 1) * self.size].tolist()
        return rows

    def _zeros(self, i: int) -> Tensor:
        return torch.zeros(len(self._rows(i)), *self.data.spec.shape)
