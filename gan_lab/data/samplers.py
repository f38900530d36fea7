"""Batch samplers. The global batch is a function of (seed, iteration); ranks take shares of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from gan_lab import seeding


class Row(NamedTuple):
    """A row of a batch: the indices of the image and its source, and whether to hide the label."""

    image: int
    source: int
    label_hidden: int = 0


def stack_rows(
    images: np.ndarray, sources: np.ndarray | None = None, label_hidden: np.ndarray | None = None
) -> np.ndarray:
    """Stack rows to an int64 array [B, 3] with the columns of ``Row``.

    Without ``sources``, each image has the source of the same index.
    """
    hidden = np.zeros_like(images) if label_hidden is None else label_hidden
    return np.stack([images, images if sources is None else sources, hidden], axis=1)


class EndlessBatchSampler(Sampler[list[Any]]):
    """Shuffles the whole set for each epoch; batches continue across the epoch boundary.

    A resumed run continues with the next unseen image. Rank r of N reads the r-th share of the
    batch of a single process, or of each of its ``parts`` micro-batches (gradient accumulation).
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        *,
        purpose: str = "order",
    ) -> None:
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.purpose = purpose
        self.start = start
        self.stop = stop
        self.rank = rank
        self.world = world
        self.parts = parts
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Any]]:
        for iteration in range(self.start, self.stop):
            shares = np.split(self.rows(iteration), self.parts * self.world)
            yield np.concatenate(shares[self.rank :: self.world]).tolist()

    def rows(self, iteration: int) -> np.ndarray:
        """Return the rows of the global batch, [batch_size]."""
        begin, end = iteration * self.batch_size, (iteration + 1) * self.batch_size
        parts = []
        while begin < end:
            epoch, offset = divmod(begin, self.n)
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = seeding.permutation(self.seed, self.purpose, epoch, self.n)
            parts.append(self._order[offset : offset + end - begin])
            begin += len(parts[-1])
        return np.concatenate(parts)


class UnpairedBatchSampler(EndlessBatchSampler):
    """Shuffles images and sources independently, for unpaired translation."""

    def __init__(self, n: int, sources: int, batch_size: int, seed: int, *rest: int) -> None:
        super().__init__(n, batch_size, seed, *rest)
        self.sources = EndlessBatchSampler(
            sources, batch_size, seed, *rest, purpose="order of sources"
        )

    def rows(self, iteration: int) -> np.ndarray:
        """Return the rows of the global batch, [batch_size, 3]."""
        return stack_rows(super().rows(iteration), self.sources.rows(iteration))


class SemiSupervisedBatchSampler(EndlessBatchSampler):
    """Alternates labeled rows and rows of the whole set with their labels hidden."""

    def __init__(
        self, n: int, labelled: np.ndarray, batch_size: int, seed: int, *rest: int
    ) -> None:
        super().__init__(n, batch_size, seed, *rest)
        self.labelled = labelled
        self.labeled_sampler = EndlessBatchSampler(
            len(labelled), batch_size // 2, seed, 0, 0, purpose="order of the labelled"
        )
        self.unlabeled_sampler = EndlessBatchSampler(n, batch_size // 2, seed, 0, 0)

    def rows(self, iteration: int) -> np.ndarray:
        """Return the rows of the global batch, [batch_size, 3]."""
        labeled = self.labelled[self.labeled_sampler.rows(iteration)]
        unlabeled = self.unlabeled_sampler.rows(iteration)
        images = np.stack([labeled, unlabeled], axis=1).reshape(-1)
        return stack_rows(images, label_hidden=np.arange(len(images)) % 2)
