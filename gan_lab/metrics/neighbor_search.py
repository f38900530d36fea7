"""Nearest neighbors among features, a block of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

# Number of rows of a distance matrix that are in memory at a time.
BLOCK_ROWS = 1000
# Number of its columns that a search computes at a time: 80 MB of float64.
BLOCK_OTHERS = 10_000
# Relative to the norm of the features: distances of equal images that differ by rounding.
DUPLICATE_DISTANCE = 1e-5


def find_nearest(points: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest of ``others`` [M, D] for each of ``points`` [N, D].

    Returns:
        Distances, nearest first, and row numbers in ``others``, [N, k] each.
    """
    blocks = [torch.cdist(rows, others).topk(k, largest=False) for rows in points.split(BLOCK_ROWS)]
    return torch.cat([block.values for block in blocks]), torch.cat(
        [block.indices for block in blocks]
    )


class NeighborSearch:
    """Nearest neighbors of some points among rows that arrive block by block.

    Args:
        points: The points [N, D] whose neighbors are searched for.
        k: Number of neighbors of each point.

    Attributes:
        distances: Distances to the nearest rows so far, nearest first, [N, k].
        indices: Indices of these rows among all rows so far, [N, k].
        rows_searched: Number of rows so far.
    """

    def __init__(self, points: Tensor, k: int = 1) -> None:
        self.points = points
        self.k = k
        self.rows_searched = 0
        self.distances = points.new_full((len(points), k), torch.inf)
        self.indices = torch.zeros(len(points), k, dtype=torch.int64)

    def add(self, others: Tensor) -> None:
        """Search the next rows [M, D], in blocks that bound the memory of the distances."""
        for block in others.split(BLOCK_OTHERS):
            self._add_block(block)

    def _add_block(self, others: Tensor) -> None:
        distances, indices = find_nearest(self.points, others, min(self.k, len(others)))
        merged, order = torch.cat([self.distances, distances], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([self.indices, indices + self.rows_searched], dim=1).gather(1, order)
        self.distances = merged[:, : self.k]
        self.indices = indices[:, : self.k]
        self.rows_searched += len(others)
