"""Reals that scores compare against, read lazily in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gan_lab.data.split import Subset, group_rows
from gan_lab.images import Batch, to_unit

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule


class Reference(Sequence[Batch]):
    """Reals that scores compare against: batches in [-1, 1], read lazily."""

    def __init__(
        self, split: Subset, rows: np.ndarray, size: int, data: GANDataModule, name: str
    ) -> None:
        self.split = split
        self.rows = rows
        self.size = size
        self.data = data
        self.name = name

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, i: Any) -> Any:
        return self.data.in_range(self.split.__getitems__(self._rows(i)))

    @property
    def labels(self) -> np.ndarray:
        """The label of each row. Only for labeled data."""
        assert self.split.labels is not None
        return self.split.labels[self.rows]

    def repeat_rows(self, start: int, stop: int) -> Reference:
        """Return the rows from ``start`` to ``stop`` of an endless repetition of these rows."""
        return self._with_rows(np.take(self.rows, np.arange(start, stop), axis=0, mode="wrap"))

    def with_labels(self, labels: np.ndarray) -> Reference:
        """Return rows with the label counts of ``labels`` [N], or fewer if a class is too small.

        They are sorted by class.
        """
        own = self.labels
        rows_of_label = dict(zip(np.unique(own), group_rows(own), strict=True))
        wanted = zip(*np.unique(labels, return_counts=True), strict=True)
        no_rows = np.empty(0, dtype=np.int64)
        chosen = [rows_of_label.get(label, no_rows)[:count] for label, count in wanted]
        return self._with_rows(self.rows[np.concatenate(chosen)])

    def shuffle_rows(self) -> Reference:
        """Return the rows in a random order, which is the same for equal numbers of rows."""
        return self._with_rows(np.random.default_rng(0).permutation(self.rows))

    def _with_rows(self, rows: np.ndarray) -> Reference:
        return Reference(self.split, rows, self.size, self.data, self.name)

    def conditions(self, i: int) -> Batch:
        """Return the labels and sources of batch i, with zeros as images: the generator's input."""
        # Degraded sources are computed from the images.
        if self.data.degradation:
            return self[i]._replace(images=self._make_zeros(i))
        batch = self.split.__getitems__(self._rows(i), images=False)
        return batch._replace(images=self._make_zeros(i)).map(to_unit)

    def _rows(self, i: int) -> list[Any]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        rows: list[Any] = self.rows[i * self.size : (i + 1) * self.size].tolist()
        return rows

    def _make_zeros(self, i: int) -> Tensor:
        return torch.zeros(len(self._rows(i)), *self.data.spec.shape)
