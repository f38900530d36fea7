"""Score a checkpoint of a run, and write ``summary.json``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gan_lab import device
from gan_lab.config.schema import MetricsConfig
from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.images import save_grid
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.evaluator import Evaluator, metric_setting
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.metrics.leaks import find_leaks
from gan_lab.metrics.nearest_neighbors import find_neighbours
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.results import WEIGHTS, read_summary, write_summary
from gan_lab.runs.run import RestoredRun, Run
from gan_lab.utils.errors import UserError

MIN_LOGGED_IMAGES = (
    20_000  # training images from which on the search for copies is logged, since it takes long
)
MAX_REAL_VS_REAL_SHARE = (
    0.1  # of a Fréchet distance, above which a note reports the real-vs-real score
)
logger = logging.getLogger("gan_lab")


def evaluate_all(folder: Path, data: GANDataModule | None = None) -> None:
    """Score a run that has just ended with each of ``WEIGHTS``; equal weights are scored once.

    On a CPU only the best weights get all scores, the others those of the training: Inception takes
    long there.
    """
    full = device.here().type == "cuda"
    run = Run(folder).restore(data=data, weights=None)
    score_run(run, "best")
    summary = read_summary(folder)
    if summary.get("best_iteration") == summary["iteration"]:
        scores = deepcopy(summary["scores"]["best"])
        for entry in scores.values():
            entry["protocol"] |= {
                "weights": f"last: {WEIGHTS['last']}, {summary['iteration']}",
                "chosen_on": "none",
            }
        summary["scores"]["last"] = scores
        write_summary(folder, summary)
    else:
        score_run(run, "last", full=full)
    score_run(run, "live", full=full)


def evaluate(folder: Path, weights: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score some of the ``WEIGHTS`` of a run by all available metrics; return the updated summary.

    ``overrides`` of metrics measure a run by another protocol; its other scores stay as they are.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights}: there are {', '.join(WEIGHTS)}")
    other_protocol = any(override.startswith("metrics") for override in overrides)
    return score_run(Run(folder).restore(overrides, weights=None), weights, kept=other_protocol)


def score_run(
    restored: RestoredRun, weights: str, full: bool = True, kept: bool = False
) -> dict[str, Any]:
    """Score some weights of a run; write and return the updated summary.

    Each score has its protocol, which includes the real-vs-real score. For the best weights the
    distance of samples to training images is measured too, and ``neighbours.png`` shows the
    nearest.

    Args:
        restored: The run; its weights are replaced.
        weights: Some of ``WEIGHTS``.
        full: Measure all available scores; otherwise those of the training.
        kept: Keep the other scores of these weights.
    """
    folder, config = restored.run.path, restored.config
    data, family = restored.data, restored.family
    iteration = restored.load(weights)
    setting = replace(metric_setting(config, family, data, final=True), final=full)
    metrics = select_metrics(setting)
    for note in setting.notes if full else ():
        logger.info(note)
    state_cost(metrics, setting, family.device)
    evaluator = Evaluator(
        data, metrics, setting, config.run.seed, shared=False, bar=config.log.progress_bar
    )
    chosen_on = (
        choosing_split(restored.run.config.metrics, setting.split, data)
        if weights == "best"
        else "none"
    )
    described = f"{weights}: {WEIGHTS[weights]}, {iteration}"
    scores = score(evaluator, family, described, chosen_on)
    if weights == "best":
        scores |= neighbour_scores(folder, evaluator, family, described, chosen_on)
        scores |= leak_scores(evaluator, family, described, chosen_on)
        scores |= own_best_scores(
            restored, evaluator, chosen_on
        )  # last, since it loads other weights
    summary: dict[str, Any] = {"experiment": folder.resolve().parent.name, "iteration": iteration}
    summary |= {"images": iteration * config.data.batch_size} | read_summary(folder)
    every = summary.setdefault("scores", {})
    every[weights] = (every.get(weights, {}) if kept else {}) | scores
    write_summary(folder, summary)
    return summary


def choosing_split(trained_with: MetricsConfig, split: str, data: GANDataModule) -> str:
    """Return the split on which best.ckpt was selected, with a remark if it is also scored on it."""
    chosen = "train" if trained_with.split == "train" else "validation" if data.divided else "test"
    return f"{chosen}, the same images" if chosen == split else chosen


def score(evaluator: Evaluator, family: Family, described: str, chosen_on: str) -> dict[str, Any]:
    """Build the entries of ``summary.json`` for all scores of a family: value, spread, direction, protocol, note."""
    values, floors = evaluator(family), evaluator.floors(family.device)
    frechet = {
        metric.extractor.distance
        for metric in evaluator.metrics
        if isinstance(metric, FeatureScores)
    }
    entries: dict[str, Any] = {}
    for name, higher in evaluator.higher_is_better.items():
        if name not in values:
            continue
        spread = {"spread": values[f"{name}_sd"]} if f"{name}_sd" in values else {}
        entry: dict[str, Any] = {"value": values[name], **spread, "higher_is_better": higher}
        entries[name] = entry | {"protocol": evaluator.protocol(name, described, chosen_on)}
        if name in floors:
            classes = "as asked for" if evaluator.setting.conditional else "at random"
            entries[name]["protocol"] |= {"floor": floors[name], "floor_classes": classes}
            if name in frechet and floors[name] > MAX_REAL_VS_REAL_SHARE * values[name]:
                entries[name]["note"] = (
                    f"the real-vs-real score is {floors[name]:.3g}, more than 10% of this value; sample-size bias matters here"
                )
    for name, value in evaluator.baselines().items():
        protocol = evaluator.protocol(name, "none", "none")
        entries[name] = {"value": value, "higher_is_better": None, "protocol": protocol}
    for metric in evaluator.metrics:
        for name, of_reals in metric.floor_names.items():
            if name in entries and name in floors:
                entries[of_reals] = entries[name] | {
                    "value": floors[name],
                    "higher_is_better": None,
                }
    return entries


def own_best_scores(restored: RestoredRun, evaluator: Evaluator, chosen_on: str) -> dict[str, Any]:
    """Score each baseline at its own best iteration, as the family is: otherwise the comparison would be unfair."""
    entries: dict[str, Any] = {}
    for name in evaluator.own_best:
        if f"best-{name}" in restored.run.checkpoints:
            iteration = restored.load(f"best-{name}")
            metrics = [metric for metric in evaluator.metrics if name in metric.names]
            alone = Evaluator(
                restored.data,
                metrics,
                evaluator.setting,
                evaluator.seed,
                shared=False,
                bar=evaluator.bar,
            )
            entries[name] = score(
                alone, restored.family, f"best: its own best iteration, {iteration}", chosen_on
            )[name]
    return entries


def neighbour_scores(
    folder: Path, evaluator: Evaluator, family: Family, described: str, chosen_on: str
) -> dict[str, Any]:
    """Find how near samples are to training images, for images of latents; draws ``neighbours.png``."""
    compared, data = (
        [metric for metric in evaluator.metrics if isinstance(metric, FeatureScores)],
        evaluator.data,
    )
    if (
        not compared
        or data.spec.source_channels
        or data.spec.content == "points"
        or len(data.train) < 2
    ):
        return {}
    if len(data.train) > MIN_LOGGED_IMAGES:
        logger.info(f"looking for copies among all {len(data.train):,} training images")
    values, protocol, pairs = find_neighbours(family, data, compared[0].extractor, evaluator.seed)
    save_grid(pairs, 8, folder / "neighbours.png")
    usual = evaluator.protocol(compared[0].names[0], described, chosen_on) | protocol
    return {
        name: {"value": value, "higher_is_better": None, "protocol": usual}
        for name, value in values.items()
    }


def leak_scores(
    evaluator: Evaluator, family: Family, described: str, chosen_on: str
) -> dict[str, Any]:
    """Find how far samples look augmented, where the discriminator saw augmented images."""
    if family.augmentation is None or not evaluator.metrics:
        return {}
    values, protocol = find_leaks(family, evaluator.data, evaluator.seed)
    usual = evaluator.protocol(evaluator.metrics[0].names[0], described, chosen_on)
    usual = {
        key: value for key, value in usual.items() if key not in ("weights_sha256", "resize")
    } | protocol
    return {
        name: {"value": value, "higher_is_better": None, "protocol": usual}
        for name, value in values.items()
    }


def state_cost(metrics: Sequence[Metric], setting: Setting, where: torch.device) -> None:
    """Log how long Inception will take on a CPU, measured on a few images."""
    for metric in metrics:
        if (
            where.type == "cpu"
            and isinstance(metric, FeatureScores)
            and metric.extractor.name == "inception"
        ):
            few, start = torch.zeros(4, *setting.spec.shape, dtype=torch.uint8), time.monotonic()
            metric.extractor(few)
            minutes = (
                (time.monotonic() - start) / len(few) * (2 * setting.fakes + setting.reals) / 60
            )
            logger.info(
                f"fid, kid and is of {setting.fakes:,} fakes and {setting.reals:,} reals: about {minutes:.0f} minutes on this "
                "CPU, fewer where the reals are known; metrics.inception_weights=off leaves them out"
            )
