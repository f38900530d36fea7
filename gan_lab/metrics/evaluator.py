"""Scores of a family against reals, independent of the number of processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy
import torch
from torch import Tensor, distributed

from gan_lab import device
from gan_lab.config import extensions
from gan_lab.config.schema import Config, MetricsConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.cache import decoded_once
from gan_lab.data.reference import Reference
from gan_lab.distributed.gradients import is_distributed
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec, to_uint8
from gan_lab.metrics import extractors
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.selection import select_metrics
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError
from gan_lab.utils.track import stage, track

Protocol = dict[str, Any]

# Reals and fakes of an evaluation during training, unless metrics.num_fakes and num_reals are set.
IMAGES_DURING_TRAINING = 1_000
# Fakes of the final evaluation. More take long on a CPU, and hardly change a score.
MAX_FAKES_ON_GPU = 50_000
MAX_FAKES_ON_CPU = 10_000
MAX_FAKES_PER_REAL = 4
# of extractors: see Extractor.__call__
EXTRACTOR_PRECISION = "float32"
# fakes of the batch that the duration is estimated from
ESTIMATE_IMAGES = 16


def build_evaluator(
    config: Config, family: Family, data: GANDataModule
) -> tuple[Evaluator, str | None, list[str]]:
    """Build the evaluator that runs during training.

    Returns:
        The evaluator, the score that selects best.ckpt (None if there is no score), and notes on
        skipped scores.

    Raises:
        UserError: The file of Inception weights is missing or wrong, or ``metrics.headline`` is not
            a score or has no direction.
    """
    if config.metrics.inception_weights not in ("auto", "off"):
        # Report a wrong file now rather than at the end of training.
        extractors.load("inception", config.metrics)
    setting = build_setting(config, family, data)
    bar = config.log.progress_bar
    evaluator = Evaluator(data, select_metrics(setting), setting, config.run.seed, bar=bar)
    scores = evaluator.higher_is_better
    headline = config.metrics.headline or next(iter(scores), None)
    if headline and headline not in scores:
        raise UserError(
            extensions.explain_unknown_name("score", headline, list(scores))
            + "".join(f"; {note}" for note in setting.notes)
            + f" (metrics.headline={headline})"
        )
    if headline and scores[headline] is None:
        raise UserError(
            f"metrics.headline={headline}: this score has no direction, so it cannot select a "
            "checkpoint. Choose another one."
        )
    return evaluator, headline, setting.notes


def build_setting(
    config: Config, family: Family | type[Family], data: GANDataModule, final: bool = False
) -> Setting:
    """Collect the facts about a family, its data and its config that metrics depend on."""
    split: str = config.metrics.split
    if split == "test" and not final:
        split = "validation"
    gpu = device.get_default_device().type == "cuda"
    reals, fakes = count_images(config.metrics, data.spec, count_reals(data, split), final, gpu)
    return Setting(
        data.spec,
        config.metrics,
        tuple(family.output_names),
        family.conditional,
        split,
        reals,
        fakes,
        final,
        config.augment.policy,
        data.degradation,
    )


def count_reals(data: GANDataModule, split: str) -> int:
    """Count the reals of a split. Of two unpaired sets, the smaller one counts."""
    reals = data.subset(split)
    if reals.sources is not None and data.spec.pairs == "none":
        return min(len(reals), len(reals.sources))
    return len(reals)


def count_images(
    cfg: MetricsConfig, spec: ImageSpec, available: int, final: bool, gpu: bool
) -> tuple[int, int]:
    """Choose the numbers of reals and fakes of an evaluation.

    Args:
        cfg: The keys under ``metrics:``.
        spec: Description of the images. A translation has up to one fake for each real.
        available: Number of reals in the split.
        final: Whether this is the evaluation at the end of training.
        gpu: Whether there is a GPU.
    """
    reals = min(available, cfg.num_reals or (available if final else IMAGES_DURING_TRAINING))
    if cfg.num_fakes:
        fakes = cfg.num_fakes
    elif not final:
        fakes = IMAGES_DURING_TRAINING
    elif gpu:
        fakes = MAX_FAKES_ON_GPU
    else:
        fakes = min(MAX_FAKES_ON_CPU, MAX_FAKES_PER_REAL * reals)
    return reals, min(fakes, reals) if spec.source_channels else fakes


class Evaluator:
    """Generates fakes for the reals of a split and scores them by every metric.

    Fake i has the label or the source of real i; if there are more fakes than reals, labels and
    sources repeat. Fake i is the same for any number of processes: each batch has its own random
    stream, the batches are distributed over the ranks, and the results are put back in order.

    Args:
        data: The data.
        metrics: The metrics.
        setting: Facts about family, data and config; numbers of reals and fakes.
        seed: Seed of the fakes.
        shared: Whether the ranks share the work; False: this process does all of it.
        bar: Whether rank 0 shows the progress.
        stage: What is evaluated, for the progress, such as "best weights".
    """

    def __init__(
        self,
        data: GANDataModule,
        metrics: Sequence[Metric],
        setting: Setting,
        seed: int,
        shared: bool = True,
        bar: bool = False,
        stage: str = "",
    ) -> None:
        self.data = data
        self.metrics = metrics
        self.setting = setting
        self.seed = seed
        self.shared = shared
        self.cfg = setting.cfg
        self.bar = bar
        self.prefix = f"{stage}: " if stage else ""
        all_reals = data.reference(sys.maxsize, split=setting.split)
        available = len(all_reals.rows)
        self.reals = all_reals.repeat_rows(0, min(setting.reals, available))
        # Metrics with needs_reals compare the first fakes with their reals; the other metrics score
        # all fakes.
        self.first = all_reals.repeat_rows(0, min(setting.smaller_count, available))
        self.more = all_reals.repeat_rows(setting.smaller_count, setting.fakes)
        self._real_statistics: list[Statistics] | None = None

    @property
    def higher_is_better(self) -> dict[str, bool | None]:
        """Direction of every score."""
        return {
            name: higher
            for metric in self.metrics
            for name, higher in metric.higher_is_better.items()
        }

    @property
    def own_best(self) -> dict[str, bool]:
        """Direction of the scores that are reported at their own best iteration."""
        return {name: higher for metric in self.metrics for name, higher in metric.own_best.items()}

    @torch.no_grad()
    def __call__(self, family: Family) -> dict[str, float]:
        """Compute all scores of the family's generator, in evaluation mode and float32."""
        if not self.metrics:
            return {}
        with device.exact_arithmetic(family.device):
            reals = self._get_real_statistics(family.device)
            fakes = self._compute_fake_statistics(family)
        values: dict[str, float] = {}
        is_shown = self.bar and (not is_distributed() or distributed.get_rank() == 0)
        for metric, real, fake in zip(self.metrics, reals, fakes, strict=True):
            # some take long: the classification accuracy score trains a classifier
            with stage(f"{self.prefix}computing {', '.join(metric.names)}", is_shown):
                values |= metric.compute(real, fake)
        return values

    def _get_real_statistics(self, on_device: torch.device) -> list[Statistics]:
        if self._real_statistics is None:
            self._real_statistics = [
                compute_real_statistics(
                    self.data, self.reals, metric, on_device, self.cfg.max_features_kept, self.bar
                )
                for metric in self.metrics
            ]
        return self._real_statistics

    def compute_references(self, on_device: torch.device) -> dict[str, float]:
        """Compute the real-vs-real reference of each score. It is cached with the data set.

        As many images as there are fakes, or fewer, of those that the model learns from replace the
        fakes, with the same labels for a conditional generator.
        """
        values = self._score_reals(on_device, "learned")
        return {
            name: values[name] for metric in self.metrics for name in metric.names if name in values
        }

    def compute_full_references(self, on_device: torch.device) -> dict[str, float]:
        """Compute the references with all training images, if the model learns from a part."""
        if self.data.train is self.data.all_train or self.setting.split == "train":
            return {}
        return self._score_reals(on_device, "train")

    def compute_trivial_scores(self, on_device: torch.device) -> dict[str, float]:
        """Compute the scores of generators that memorize or average, with the references.

        ``<score>_of_replay`` is that of a generator that repeats the images that the model learns
        from, ``<score>_of_mean_image`` that of one that repeats their mean (that of their class,
        for a conditional generator). Only the final evaluation has them.
        """
        values = self._score_reals(on_device, "learned")
        names = [name for metric in self.metrics for name in metric.trivial_names]
        return {name: values[name] for name in names if name in values}

    @torch.no_grad()
    def _score_reals(self, on_device: torch.device, split: str) -> dict[str, float]:
        """Score images of a split, and trivial generators that know them, in place of fakes."""
        values: dict[str, float] = {}
        if self.data.spec.source_channels:
            return values
        with device.exact_arithmetic(on_device):
            statistics = self._get_real_statistics(on_device)
            for metric, real in zip(self.metrics, statistics, strict=True):
                if metric.reals_key and not metric.needs_reals:
                    values |= compute_reference(
                        self.data, self.setting, metric, real, on_device, split
                    )
        return values

    def baselines(self) -> dict[str, float]:
        """Compute the scores of trivial solutions on the same reals, at the end of training."""
        values: dict[str, float] = {}
        if self.setting.final:
            for metric in self.metrics:
                values |= metric.baselines(self.data, self.first)
        return values

    @torch.no_grad()
    def estimate_seconds(self, family: Family) -> float:
        """Estimate the duration of a call, without the reals, from one small batch of fakes."""
        images = min(ESTIMATE_IMAGES, self.setting.smaller_count)
        small = replace(self.setting, reals=images, fakes=images)
        one = Evaluator(self.data, self.metrics, small, self.seed, shared=False)
        with device.exact_arithmetic(family.device):
            # once to warm up
            one._compute_fake_statistics(family)
            started = time.monotonic()
            one._compute_fake_statistics(family)
        return (time.monotonic() - started) / images * self.setting.fakes

    def _compute_fake_statistics(self, family: Family) -> list[Statistics]:
        parallel = self.shared and is_distributed()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        points = self.data.spec.content == "points"
        # Reals are read from disk only if a metric or the family uses them.
        needs_reals = any(metric.needs_reals for metric in self.metrics)
        needs_reals |= tuple(family.output_names) != ("generated",)
        tallies = [Tally(metric, self.cfg.max_features_kept) for metric in self.metrics]
        batches = range(rank, len(self.first) + len(self.more), world)
        is_shown = self.bar and rank == 0
        for i in track(batches, f"{self.prefix}scoring fakes", shown=is_shown):
            has_reals = i < len(self.first)
            part, k = (self.first, i) if has_reals else (self.more, i - len(self.first))
            batch = part[k] if needs_reals and has_reals else part.conditions(k)
            batch = batch.to_device(family.device, family.dtype)
            stream = Stream(self.seed, "evaluate", i)
            outputs = (
                family.outputs(batch, stream)
                if has_reals
                else {"generated": family.generate(batch, stream)}
            )
            outputs = {name: _quantize(output, points) for name, output in outputs.items()}
            batch = _quantize_batch(batch, points)
            index = k * part.size + (0 if has_reals else len(self.first.rows))
            for tally in tallies:
                if has_reals or not tally.metric.needs_reals:
                    tally.add(index, tally.metric.update_fake(outputs, batch))
        if parallel:
            shares: list[Any] = [None] * world
            distributed.all_gather_object(shares, [(tally.sums, tally.rows) for tally in tallies])
            tallies = [
                Tally.merge(tally, [share[m] for share in shares])
                for m, tally in enumerate(tallies)
            ]
        return [tally.statistics() for tally in tallies]

    def protocol(self, score: str, weights: str, chosen_on: str) -> Protocol:
        """Describe everything that a score depends on, except for the generator's weights.

        Args:
            score: Name of the score.
            weights: Which weights are scored.
            chosen_on: The split that selected them.
        """
        metric = next(
            metric
            for metric in self.metrics
            if score in (*metric.names, *metric.baseline_names, *metric.trivial_names)
        )
        decoded, spec = self.data.decoded, self.data.spec
        inputs = (
            {"inputs": f"{spec.source_channels} channels, pairs: {spec.pairs}"}
            if spec.source_channels
            else {}
        )
        if self.setting.degradation:
            inputs["inputs"] += f", degradation: {self.setting.degradation.describe()}"
        return {
            **metric.protocol(score, self.setting.smaller_count),
            "reals": self.setting.reals,
            "fakes": self.setting.smaller_count if metric.needs_reals else self.setting.fakes,
            "data": f"{self.data.cfg.name}-{decoded.source}",
            "fingerprint": decoded.fingerprint,
            "split": self.setting.split,
            "chosen_on": chosen_on,
            "shape": list(spec.shape),
            **inputs,
            # whether fake i has the label of real i, so that the classes have the right shares
            "labels": "those of the reals" if self.setting.conditional else "none",
            "train_images": len(self.data.train),
            "flip": self.data.cfg.flip,
            "augment": self.setting.augment,
            "device": device.get_default_device().type,
            "precision": EXTRACTOR_PRECISION,
            "weights": weights,
            "seed": self.seed,
            "versions": library_versions(),
        }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a score depends on."""
    return {
        "torch": torch.__version__,
        "torchmetrics": version("torchmetrics"),
        "torch-fidelity": version("torch-fidelity"),
        "numpy": numpy.__version__,
    }


class Tally:
    """The state of one metric over all batches: running sums, and rows per image in batch order.

    Args:
        metric: The metric.
        cap: Number of rows to keep of its ``limited_states``.
    """

    def __init__(self, metric: Metric, cap: int) -> None:
        self.metric = metric
        self.cap = cap
        self.sums: Statistics = {}
        self.rows: dict[int, Statistics] = {}

    def add(self, index: int, observed: Statistics) -> None:
        """Add the statistics of a batch whose first image has this index."""
        for name in observed.keys() & self.metric.sum_states:
            self.sums[name] = (
                self.sums[name].add_(observed[name]) if name in self.sums else observed[name]
            )
        self.rows[index] = {
            # A view would keep the whole batch in memory.
            name: rows[: max(0, self.cap - index)].clone()
            if name in self.metric.limited_states
            else rows
            for name, rows in observed.items()
            if name not in self.metric.sum_states
        }

    @classmethod
    def merge(cls, own: Tally, shares: Sequence[tuple[Statistics, dict[int, Statistics]]]) -> Tally:
        """Merge the sums and rows of all ranks into a tally of the same metric as ``own``."""
        tally = cls(own.metric, own.cap)
        for sums, rows in shares:
            for name, value in sums.items():
                tally.sums[name] = tally.sums[name] + value if name in tally.sums else value
            tally.rows |= rows
        return tally

    def statistics(self) -> Statistics:
        """Return the sums, and the rows in the order of the batches."""
        ordered = [self.rows[index] for index in sorted(self.rows)]
        names = ordered[0] if ordered else ()
        return self.sums | {name: torch.cat([rows[name] for rows in ordered]) for name in names}


@torch.no_grad()
def compute_real_statistics(
    data: GANDataModule,
    reals: Reference,
    metric: Metric,
    on_device: torch.device,
    cap: int,
    bar: bool = False,
) -> Statistics:
    """Compute the statistics of the reals for a metric. They are cached with the data.

    With several processes, one computes them and the others wait for the file.
    """
    if not metric.reals_key:
        return {}
    points = data.spec.content == "points"

    def compute() -> dict[str, numpy.ndarray]:
        tally = Tally(metric, cap)
        for i, batch in enumerate(track(reals, "scoring reals", shown=bar)):
            tally.add(
                i * reals.size,
                metric.update_real(
                    _quantize_batch(batch.to_device(on_device, torch.float32), points)
                ),
            )
        return {name: value.numpy() for name, value in tally.statistics().items()}

    key = (
        f"{metric.reals_key}/{data.decoded.fingerprint}/{data.spec}/{reals.name}/"
        f"{len(reals.rows)}/{cap}/2"
    )
    arrays, _ = decoded_once(data.cache, "reals", key, compute)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def compute_reference(
    data: GANDataModule,
    setting: Setting,
    metric: Metric,
    real: Statistics,
    on_device: torch.device,
    split: str = "learned",
) -> dict[str, float]:
    """Compute the real-vs-real reference of a metric: its scores with reals instead of fakes.

    If the split has fewer images than there are fakes, fewer are used. If the fakes are compared
    with the training set, the test set replaces the split.

    Args:
        data: The data.
        setting: The setting of the evaluation.
        metric: The metric.
        real: Its statistics of the reals.
        on_device: The device.
        split: "learned", the images that the model learns from, or "train", all training images.

    Returns:
        The scores by name, and those of trivial generators that know the split "learned".
    """
    if setting.split == "train":
        split = "test"
    conditional = setting.conditional
    cap = setting.cfg.max_features_kept
    trivial_names = metric.trivial_names if split == "learned" else ()
    reals = data.reference(sys.maxsize if conditional else setting.fakes, split=split)

    def compute() -> dict[str, numpy.ndarray]:
        # the images of each class, and how often a generator shows their mean
        chosen, repeats = reals, torch.tensor([setting.fakes])
        if conditional:
            conditions = data.reference(sys.maxsize, split=setting.split).repeat_rows(
                0, setting.fakes
            )
            chosen = reals.with_labels(conditions.labels)
            if len(chosen.rows) > cap:
                # the first rows of features are kept, and are to have all classes
                chosen = chosen.shuffle_rows()
            known = torch.from_numpy(numpy.unique(chosen.labels))
            asked = torch.from_numpy(conditions.labels)
            repeats = torch.stack([(asked == label).sum() for label in known])
        tally, points = Tally(metric, cap), data.spec.content == "points"
        sums = torch.zeros(len(repeats), *data.spec.shape, dtype=torch.float64)
        counts = torch.zeros(len(repeats), dtype=torch.float64)
        for i, batch in enumerate(chosen):
            pixels = _quantize_batch(batch.to_device(on_device, torch.float32), points)
            tally.add(i * chosen.size, metric.update_fake({"generated": pixels.images}, pixels))
            if trivial_names:
                rows = torch.zeros(len(pixels.images), dtype=torch.int64)
                if conditional:
                    assert pixels.labels is not None
                    rows = torch.searchsorted(known, pixels.labels.cpu())
                sums.index_add_(0, rows, pixels.images.cpu().double())
                counts.index_add_(0, rows, torch.ones(len(rows), dtype=torch.float64))
        statistics = tally.statistics()
        values = metric.compute(real, statistics)
        if trivial_names:
            means = (sums / counts.view(-1, 1, 1, 1)).round().to(torch.uint8).to(on_device)
            batch = Batch(means, known.to(on_device) if conditional else None)
            observed = metric.update_fake({"generated": means}, batch)
            values |= metric.trivial_scores(real, statistics, observed, repeats)
        return {name: numpy.array(value) for name, value in values.items()}

    key = f"{metric.reals_key}/{data.decoded.fingerprint}/{data.spec}/{setting.split}/{conditional}"
    described = {name: metric.protocol(name, setting.smaller_count) for name in metric.names}
    # with all images, "learned" and "train" are the same reals, but only the first has
    # trivial scores
    key = f"{key}/{setting.reals}/{setting.fakes}/{cap}/{described}/{reals.name}/{trivial_names}/3"
    # The kind is part of the names of existing cache files.
    arrays, _ = decoded_once(data.cache, "floor", key, compute)
    return {name: float(array) for name, array in arrays.items()}


def _quantize(output: Tensor, points: bool) -> Tensor:
    """Convert images to uint8; points and logits are returned unchanged."""
    return output if points or output.dim() < 4 else to_uint8(output)


def _quantize_batch(batch: Batch, points: bool) -> Batch:
    return batch.map(lambda images: _quantize(images, points))
