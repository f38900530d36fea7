"""Scores of a family against reals: the same in training and after, with one process and with several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy
import torch
import torch_fidelity
import torchmetrics
from torch import Tensor, distributed

from gan_lab.config.schema import MetricsConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.cache import decoded_once
from gan_lab.data.reference import Reference
from gan_lab.device import exact_arithmetic
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec, to_uint8
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.formulas import Statistics
from gan_lab.seeding import Stream
from gan_lab.utils.track import track

Protocol = dict[str, Any]
IN_TRAINING = 1_000  # images of each kind, unless metrics.num_fakes and metrics.num_reals say otherwise
ON_GPU, ON_CPU, FAKES_PER_REAL = 50_000, 10_000, 4  # fakes at the end: more would not be of use, or take too long


def count_images(cfg: MetricsConfig, spec: ImageSpec, available: int, final: bool, gpu: bool) -> tuple[int, int]:
    """Count the reals, of those ``available``, and the fakes that an evaluation is of; a translation has one for each."""
    reals = min(available, cfg.num_reals or (available if final else IN_TRAINING))
    useful = (ON_GPU if gpu else min(ON_CPU, FAKES_PER_REAL * reals)) if final else IN_TRAINING
    fakes = cfg.num_fakes or useful
    return reals, min(fakes, reals) if spec.source_channels else fakes


class Evaluator:
    """Generates fakes for the reals of a split and scores them by every metric.

    Fake i is asked for what real i is; where there are more fakes than reals, these come again. Fake i is the same
    whatever the number of processes: each batch has a stream of its own, batches are dealt to the ranks in turn, and
    what is kept of them is put back in order. With ``shared`` false this process does all of them; ``bar``: on a
    terminal it shows how far it is.
    """

    def __init__(
        self,
        data: GANDataModule,
        metrics: Sequence[Metric],
        setting: Setting,
        seed: int,
        shared: bool = True,
        bar: bool = False,
    ) -> None:
        self.data, self.metrics, self.setting, self.seed, self.shared = data, metrics, setting, seed, shared
        self.cfg, self.bar = setting.cfg, bar
        self.reals = data.reference(setting.reals, split=setting.split)
        self.first = data.reference(setting.least, split=setting.split)  # whose fakes are compared one by one
        self.more = data.reference(sys.maxsize, split=setting.split).wrapped(setting.least, setting.fakes)
        self._known: list[Statistics] | None = None

    @property
    def higher_is_better(self) -> dict[str, bool | None]:
        """All scores, each with its direction."""
        return {name: higher for metric in self.metrics for name, higher in metric.higher_is_better.items()}

    @property
    def own_best(self) -> dict[str, bool]:
        """The scores that are reported at their own best iteration: whether higher is better."""
        return {name: higher for metric in self.metrics for name, higher in metric.own_best.items()}

    @torch.no_grad()
    def __call__(self, family: Family) -> dict[str, float]:
        """All scores of the family's generator as it is now, in evaluation mode and float32."""
        if not self.metrics:
            return {}
        with exact_arithmetic(family.device):
            known = self._statistics_of_reals(family.device)
            fakes = self._over_batches(family)
        values: dict[str, float] = {}
        for metric, real, fake in zip(self.metrics, known, fakes, strict=True):
            values |= metric.compute(real, fake)
        return values

    def _statistics_of_reals(self, device: torch.device) -> list[Statistics]:
        if self._known is None:
            self._known = [
                real_statistics(self.data, self.reals, metric, device, self.cfg.max_features_kept, self.bar)
                for metric in self.metrics
            ]
        return self._known

    @torch.no_grad()
    def floors(self, device: torch.device) -> dict[str, float]:
        """The scores that real images have in the place of the fakes: as many, of another split, and where a generator
        can be asked for a label of the same labels. Measured once, then kept in the cache of the data.
        """
        values: dict[str, float] = {}
        with exact_arithmetic(device):
            for metric, known in zip(self.metrics, self._statistics_of_reals(device), strict=True):
                if metric.reals_key and not metric.needs_reals and self.data.spec.source_channels == 0:
                    values |= floor(self.data, self.setting, metric, known, device)
        return values

    def baselines(self) -> dict[str, float]:
        """Scores of no learning on the same reals, at the end of a training."""
        measured = [metric.baselines(self.data, self.first) for metric in self.metrics if self.setting.final]
        return {name: value for values in measured for name, value in values.items()}

    def _over_batches(self, family: Family) -> list[Statistics]:
        parallel = self.shared and distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        points = self.data.spec.content == "points"
        reads = any(metric.needs_reals for metric in self.metrics) or tuple(family.output_names) != ("generated",)
        states = [Tally(metric, self.cfg.max_features_kept) for metric in self.metrics]
        for i in track(range(rank, len(self.first) + len(self.more), world), "scoring fakes", shown=self.bar):
            one_by_one, stream = i < len(self.first), Stream(self.seed, "evaluate", i)
            part, k = (self.first, i) if one_by_one else (self.more, i - len(self.first))
            batch = (part[k] if reads and one_by_one else part.conditions(k)).on(family.device, family.dtype)
            outputs = family.outputs(batch, stream) if one_by_one else {"generated": family.generate(batch, stream)}
            seen = {name: _pixels(output, points) for name, output in outputs.items()}
            batch = _to_pixels(batch, points)
            for tally in states:
                if one_by_one or not tally.metric.needs_reals:
                    place = k * part.size + (0 if one_by_one else len(self.first.rows))
                    tally.add(place, tally.metric.update_fake(seen, batch))
        if parallel:
            shares: list[Any] = [None] * world
            distributed.all_gather_object(shares, [(tally.sums, tally.rows) for tally in states])
            states = [Tally.merge(tally, [share[m] for share in shares]) for m, tally in enumerate(states)]
        return [tally.statistics() for tally in states]

    def protocol(self, score: str, weights: str, chosen_on: str) -> Protocol:
        """All that a value of this score depends on besides the generator's weights, which were chosen on a split."""
        metric = next(metric for metric in self.metrics if score in (*metric.names, *metric.baseline_names))
        decoded, spec = self.data.decoded, self.data.spec
        inputs = {"inputs": f"{spec.source_channels} channels, pairs: {spec.pairs}"} if spec.source_channels else {}
        return {
            **metric.protocol(score, self.setting.least),
            "reals": self.setting.reals,
            "fakes": self.setting.least if metric.needs_reals else self.setting.fakes,
            "data": f"{self.data.cfg.name}-{decoded.source}",
            "fingerprint": decoded.fingerprint,
            "split": self.setting.split,
            "chosen_on": chosen_on,
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
    data: GANDataModule, reals: Reference, metric: Metric, device: torch.device, cap: int, bar: bool = False
) -> Statistics:
    """Statistics of the reals for a metric: made once, then kept in the cache of the data.

    Of several processes one makes it while the others wait for the file.
    """
    if not metric.reals_key:
        return {}
    points = data.spec.content == "points"

    def make() -> dict[str, numpy.ndarray]:
        tally = Tally(metric, cap)
        for i, batch in enumerate(track(reals, "scoring reals", shown=bar)):
            tally.add(i * reals.size, metric.update_real(_to_pixels(batch.on(device, torch.float32), points)))
        return {name: value.numpy() for name, value in tally.statistics().items()}

    key = f"{metric.reals_key}/{data.decoded.fingerprint}/{data.spec}/{reals.name}/{len(reals.rows)}/{cap}/2"
    arrays, _ = decoded_once(data.cache, "reals", key, make)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def floor(
    data: GANDataModule, setting: Setting, metric: Metric, known: Statistics, device: torch.device
) -> dict[str, float]:
    """The scores of a metric on reals in the place of the fakes, without those that have no such value.

    They are of the training set, or of what is held out where the fakes are compared with the training set; of a set
    that has too few of them there are fewer.
    """
    split, asked = "test" if setting.split == "train" else "train", setting.conditional
    cap = setting.cfg.max_features_kept

    def make() -> dict[str, numpy.ndarray]:
        reals = data.reference(sys.maxsize if asked else setting.fakes, split=split)
        if asked:
            asked_for = data.reference(sys.maxsize, split=setting.split).wrapped(0, setting.fakes)
            reals = reals.with_labels(asked_for.labels)
        tally, points = Tally(metric, cap), data.spec.content == "points"
        for i, batch in enumerate(reals):
            pixels = _to_pixels(batch.on(device, torch.float32), points)
            tally.add(i * reals.size, metric.update_fake({"generated": pixels.images}, pixels))
        values = metric.compute(known, tally.statistics())
        return {name: numpy.array(value) for name, value in values.items()}

    key = f"{metric.reals_key}/{data.decoded.fingerprint}/{data.spec}/{setting.split}/{asked}"
    described = {name: metric.protocol(name, setting.least) for name in metric.names}
    arrays, _ = decoded_once(data.cache, "floor", f"{key}/{setting.reals}/{setting.fakes}/{cap}/{described}/1", make)
    return {name: float(array) for name, array in arrays.items()}


def _pixels(output: Tensor, points: bool) -> Tensor:
    return output if points or output.dim() < 4 else to_uint8(output)


def _to_pixels(batch: Batch, points: bool) -> Batch:
    return batch.map(lambda images: _pixels(images, points))
