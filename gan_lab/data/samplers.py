"""Batch samplers: the rows that each iteration reads, a pure function of (seed, iteration) that each rank takes its
part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from gan_lab import seeding


class Row(NamedTuple):
    """A row of a batch where a number alone does not say it: the numbers of image and source, and whether to hide the
    label.
    """

    image: int
    source: int
    label_hidden: int = 0


def table(
    images: np.ndarray, sources: np.ndarray | None = None, label_hidden: np.ndarray | None = None
) -> np.ndarray:
    """Rows as an array int64 [B, 3], with the columns of ``Row``; without sources each image has the source of its number."""
    hidden = np.zeros_like(images) if label_hidden is None else label_hidden
    return np.stack([images, images if sources is None else sources, hidden], axis=1)


class EndlessBatchSampler(Sampler[list[Any]]):
    """A new order of the whole set for each pass, batches running on across its border.

    A resumed run goes on with the next unseen image, and rank r of N reads the r-th share of what one process would
    read: of each part, where a batch has ``parts`` that go through the networks one after the other.
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
        self.n, self.batch_size, self.seed, self.purpose = n, batch_size, seed, purpose
        self.start, self.stop, self.rank, self.world, self.parts = start, stop, rank, world, parts
        self._pass, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Any]]:
        for iteration in range(self.start, self.stop):
            shares = np.split(self.rows(iteration), self.parts * self.world)
            yield np.concatenate(shares[self.rank :: self.world]).tolist()

    def rows(self, iteration: int) -> np.ndarray:
        """The rows of the global batch, [batch_size]."""
        begin, end = iteration * self.batch_size, (iteration + 1) * self.batch_size
        parts = []
        while begin < end:
            number, offset = divmod(begin, self.n)
            if number != self._pass:
                self._pass, self._order = (
                    number,
                    seeding.permutation(self.seed, self.purpose, number, self.n),
                )
            parts.append(self._order[offset : offset + end - begin])
            begin += len(parts[-1])
        return np.concatenate(parts)


class UnpairedBatchSampler(EndlessBatchSampler):
    """Images and sources, each in an order of its own: nobody knows which belong together."""

    def __init__(self, n: int, sources: int, batch_size: int, seed: int, *rest: int) -> None:
        super().__init__(n, batch_size, seed, *rest)
        self.sources = EndlessBatchSampler(
            sources, batch_size, seed, *rest, purpose="order of sources"
        )

    def rows(self, iteration: int) -> np.ndarray:
        """The rows of the global batch, [batch_size, 3]."""
        return table(super().rows(iteration), self.sources.rows(iteration))


class SemiSupervisedBatchSampler(EndlessBatchSampler):
    """By turns a row of the few that are labelled, and one of all with its label hidden."""

    def __init__(
        self, n: int, labelled: np.ndarray, batch_size: int, seed: int, *rest: int
    ) -> None:
        super().__init__(n, batch_size, seed, *rest)
        self.labelled = labelled
        self.known = EndlessBatchSampler(
            len(labelled), batch_size // 2, seed, 0, 0, purpose="order of the labelled"
        )
        self.hidden = EndlessBatchSampler(n, batch_size // 2, seed, 0, 0)

    def rows(self, iteration: int) -> np.ndarray:
        """The rows of the global batch, [batch_size, 3]."""
        known, hidden = self.labelled[self.known.rows(iteration)], self.hidden.rows(iteration)
        images = np.stack([known, hidden], axis=1).reshape(-1)
        return table(images, label_hidden=np.arange(len(images)) % 2)
