"""Scores of a family against reals: the same in training and after, with one process and with several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
import torch_fidelity
import torchmetrics
from torch import Tensor, distributed

from gan_lab.config.schema import MetricsConfig
from gan_lab.data.base import GANDataModule, Reference
from gan_lab.data.cache import decoded_once
from gan_lab.device import exact_arithmetic
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.base import Metric
from gan_lab.metrics.formulas import Statistics
from gan_lab.seeding import Stream

Protocol = dict[str, Any]


class Evaluator:
    """Generates one fake for each of the first ``metrics.num_images`` reals and scores them by every metric.

    Fake i is the same whatever the number of processes: each batch has a stream of its own, batches are dealt to the
    ranks in turn, and what is kept of them is put back in order. With ``shared`` false this process does all of them.
    """

    def __init__(
        self, data: GANDataModule, metrics: Sequence[Metric], cfg: MetricsConfig, seed: int, shared: bool = True
    ) -> None:
        self.data, self.metrics, self.cfg, self.seed, self.shared = data, metrics, cfg, seed, shared
        self.reals = data.reference(cfg.num_images, split=cfg.split)
        self.n = len(self.reals.rows)
        self._known: list[Statistics] | None = None

    @property
    def higher_is_better(self) -> dict[str, bool | None]:
        """All scores, each with its direction."""
        return {name: higher for metric in self.metrics for name, higher in metric.higher_is_better.items()}

    @torch.no_grad()
    def __call__(self, family: Family) -> dict[str, float]:
        """All scores of the family's generator as it is now, in evaluation mode and float32."""
        if not self.metrics:
            return {}
        with exact_arithmetic(family.device):
            if self._known is None:
                self._known = [
                    real_statistics(self.data, self.reals, metric, family.device, self.cfg) for metric in self.metrics
                ]
            fakes = self._over_batches(family)
        values: dict[str, float] = {}
        for metric, real, fake in zip(self.metrics, self._known, fakes, strict=True):
            values |= metric.compute(real, fake)
        return values

    def _over_batches(self, family: Family) -> list[Statistics]:
        parallel = self.shared and distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        points = self.data.spec.content == "points"
        reads = any(metric.needs_reals for metric in self.metrics) or tuple(family.output_names) != ("generated",)
        states = [Tally(metric, self.cfg.max_features_kept) for metric in self.metrics]
        for i in range(rank, len(self.reals), world):
            batch = (self.reals[i] if reads else self.reals.conditions(i)).on(family.device, family.dtype)
            outputs = family.outputs(batch, Stream(self.seed, "evaluate", i))
            seen = {name: _pixels(output, points) for name, output in outputs.items()}
            batch = _to_pixels(batch, points)
            for tally in states:
                tally.add(i * self.reals.size, tally.metric.update_fake(seen, batch))
        if parallel:
            shares: list[Any] = [None] * world
            distributed.all_gather_object(shares, [(tally.sums, tally.rows) for tally in states])
            states = [Tally.merge(tally, [share[m] for share in shares]) for m, tally in enumerate(states)]
        return [tally.statistics() for tally in states]

    def protocol(self, score: str, weights: str) -> Protocol:
        """All that a value of this score depends on besides the generator's weights."""
        metric = next(metric for metric in self.metrics if score in metric.names)
        decoded, spec = self.data.decoded, self.data.spec
        inputs = {"inputs": f"{spec.source_channels} channels, pairs: {spec.pairs}"} if spec.source_channels else {}
        return {
            **metric.protocol(score, self.n),
            "reals": self.n,
            "fakes": self.n,
            "data": f"{self.data.cfg.name}-{decoded.source}",
            "fingerprint": decoded.fingerprint,
            "split": self.cfg.split,
            "shape": list(spec.shape),
            **inputs,
            "weights": weights,
            "seed": self.seed,
            "versions": {
                "torch": torch.__version__,
                "torchmetrics": torchmetrics.__version__,
                "torch-fidelity": torch_fidelity.__version__,
                "numpy": numpy.__version__,
            },
        }


class Tally:
    """State of one metric over all batches: running sums, and per-image rows in batch order."""

    def __init__(self, metric: Metric, cap: int) -> None:
        self.metric, self.cap = metric, cap
        self.sums: Statistics = {}
        self.rows: dict[int, Statistics] = {}

    def add(self, place: int, observed: Statistics) -> None:
        """The statistics of the batch that begins at this place."""
        for name in observed.keys() & self.metric.sum_states:
            self.sums[name] = self.sums[name].add_(observed[name]) if name in self.sums else observed[name]
        self.rows[place] = {
            name: rows[: max(0, self.cap - place)].clone() if name in self.metric.limited_states else rows
            for name, rows in observed.items()
            if name not in self.metric.sum_states
        }

    @classmethod
    def merge(cls, like: Tally, shares: Sequence[tuple[Statistics, dict[int, Statistics]]]) -> Tally:
        """The tallies of several processes as one."""
        tally = cls(like.metric, like.cap)
        for sums, rows in shares:
            for name, value in sums.items():
                tally.sums[name] = tally.sums[name] + value if name in tally.sums else value
            tally.rows |= rows
        return tally

    def statistics(self) -> Statistics:
        """Sums and rows, in the order of the batches."""
        ordered = [self.rows[place] for place in sorted(self.rows)]
        names = ordered[0] if ordered else ()
        return self.sums | {name: torch.cat([rows[name] for rows in ordered]) for name in names}


@torch.no_grad()
def real_statistics(
    data: GANDataModule, reals: Reference, metric: Metric, device: torch.device, cfg: MetricsConfig
) -> Statistics:
    """Statistics of the reals for a metric: made once, then kept in the cache of the data.

    Of several processes one makes it while the others wait for the file.
    """
    if not metric.reals_key:
        return {}
    points = data.spec.content == "points"

    def make() -> dict[str, numpy.ndarray]:
        tally = Tally(metric, cfg.max_features_kept)
        for i, batch in enumerate(reals):
            tally.add(i * reals.size, metric.update_real(_to_pixels(batch.on(device, torch.float32), points)))
        return {name: value.numpy() for name, value in tally.statistics().items()}

    split = "train" if reals.split is data.train else "held_out"
    key = (
        f"{metric.reals_key}/{data.decoded.fingerprint}/{data.spec}/{split}/{len(reals.rows)}/{cfg.max_features_kept}/1"
    )
    arrays, _ = decoded_once(data.cache, "reals", key, make)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pixels(output: Tensor, points: bool) -> Tensor:
    return output if points or output.dim() < 4 else to_uint8(output)


def _to_pixels(batch: Batch, points: bool) -> Batch:
    return batch.map(lambda images: _pixels(images, points))
