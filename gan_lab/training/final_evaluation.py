"""Final evaluation: score the checkpoints of a run, and write ``summary.json``."""

from __future__ import annotations

import logging
import math
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
from gan_lab.metrics.evaluator import Evaluator, build_setting
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.metrics.leaks import find_leaks
from gan_lab.metrics.nearest_neighbors import MAX_FAKES, expect_near_share, find_neighbors
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.checkpoints import find_checkpoint
from gan_lab.runs.results import WEIGHTS, read_summary, write_summary
from gan_lab.runs.run import RestoredRun, Run
from gan_lab.runs.run_folder import name_run
from gan_lab.utils.errors import UserError
from gan_lab.utils.numbers import format_duration
from gan_lab.utils.track import stage

# The slow search for memorized images is logged for more training images than this.
MIN_LOGGED_IMAGES = 20_000
# A note reports a real-vs-real score above this fraction of a Fréchet distance.
MAX_REAL_VS_REAL_SHARE = 0.1
# an evaluation that lacks a metric takes no longer without --yes
MAX_SECONDS_UNASKED = 60
logger = logging.getLogger("gan_lab")


def evaluate_all(folder: Path, data: GANDataModule | None = None) -> None:
    """Score each of ``WEIGHTS`` of a run that has just ended; equal weights are scored once.

    On a CPU, where Inception is slow, only the best weights get all scores; the others get those of
    the evaluations during training.
    """
    full = device.get_default_device().type == "cuda"
    run = Run(folder).restore(data=data, weights=None)
    summary = score_run(run, "best")
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
    score_run(run, "raw", full=full)


def evaluate(
    folder: Path, weights: str, overrides: Sequence[str] = (), ask: bool = False
) -> dict[str, Any]:
    """Score one of the ``WEIGHTS`` of a run by all available metrics; return the updated summary.

    Args:
        folder: The run folder.
        weights: One of ``WEIGHTS``, or a number of training images.
        overrides: Where the data is, and ``metrics`` keys that select another protocol; the scores
            of other metrics are kept then.
        ask: Stop if the weights of a metric are missing and the other scores of the selected
            protocol take longer than ``MAX_SECONDS_UNASKED``.

    Raises:
        UserError: There are no such weights, or ``ask`` stopped the evaluation.
    """
    if weights not in WEIGHTS and not weights.isdecimal():
        raise UserError(
            f"weights={weights} is not valid. Choose one of {', '.join(WEIGHTS)}, or a number of "
            "training images"
        )
    run = Run(folder)
    # without a best checkpoint the newest one is scored, under its own name
    if weights == "best" and find_checkpoint(folder).stem != "best":
        weights = "last"
    other_protocol = any(override.startswith("metrics") for override in overrides)
    restored = run.restore(overrides, weights=None)
    return score_run(restored, weights, keep_others=other_protocol, ask=ask and other_protocol)


def score_run(
    restored: RestoredRun,
    weights: str,
    full: bool = True,
    keep_others: bool = False,
    ask: bool = False,
) -> dict[str, Any]:
    """Score one set of weights of a run; write and return the updated summary.

    The protocol of each score includes the real-vs-real score. For the best weights, memorization
    is measured too: ``neighbours.png`` shows samples with their nearest training images.

    Args:
        restored: The run; its weights are replaced.
        weights: One of ``WEIGHTS``, or a number of training images.
        full: Compute all available metrics instead of those of the evaluations during training.
        keep_others: Keep the other scores of these weights in the summary.
        ask: Stop before a long evaluation without all metrics, see ``evaluate``.
    """
    folder, config = restored.run.path, restored.config
    data, family = restored.data, restored.family
    iteration = restored.load(weights)
    setting = replace(build_setting(config, family, data, final=True), final=full)
    metrics = select_metrics(setting)
    for note in setting.notes if full else ():
        logger.info(note)
    log_inception_cost(metrics, setting, family.device)
    evaluator = Evaluator(
        data,
        metrics,
        setting,
        config.run.seed,
        shared=False,
        bar=config.log.progress_bar,
        stage=f"{weights} weights",
    )
    if ask and setting.missing:
        check_duration(evaluator, family)
    chosen_on = (
        choosing_split(restored.run.config.metrics, setting.split, data)
        if weights == "best"
        else "none"
    )
    name = WEIGHTS.get(weights, "EMA weights after these images")
    described = f"{weights}: {name}, {iteration}"
    scores = score(evaluator, family, described, chosen_on)
    if weights == "best":
        with stage("Searching for memorized training images", evaluator.bar):
            scores |= neighbor_scores(folder, evaluator, family, described, chosen_on)
        with stage("Measuring augmentation leaks", evaluator.bar):
            scores |= leak_scores(evaluator, family, described, chosen_on)
        # last, since it loads other weights
        scores |= own_best_scores(restored, evaluator, chosen_on)
    summary: dict[str, Any] = {"experiment": folder.resolve().parent.name, "iteration": iteration}
    summary |= {"images": iteration * config.data.batch_size} | read_summary(folder)
    all_scores = summary.setdefault("scores", {})
    kept_scores = all_scores.get(weights, {}) if keep_others else {}
    all_scores[weights] = kept_scores | scores
    write_summary(folder, summary)
    return summary


def check_duration(evaluator: Evaluator, family: Family) -> None:
    """Check that an evaluation without all metrics is short.

    Raises:
        UserError: It is not. The message says which scores are missing and how long the others
            take.
    """
    seconds = evaluator.estimate_seconds(family)
    if seconds <= MAX_SECONDS_UNASKED:
        return
    names = ", ".join(evaluator.higher_is_better) or "none"
    raise UserError(
        f"{'; '.join(evaluator.setting.missing)}. The other scores ({names}) of "
        f"{evaluator.setting.fakes:,} fakes would take about {math.ceil(seconds / 60)} minutes. "
        "Add --yes to compute them"
    )


def choosing_split(trained_with: MetricsConfig, split: str, data: GANDataModule) -> str:
    """Return the split that selected best.ckpt, with a remark if the scores use it too."""
    chosen = "validation" if data.divided else "test"
    if trained_with.split == "train":
        chosen = "train"
    return f"{chosen}, the same images" if chosen == split else chosen


def score(evaluator: Evaluator, family: Family, described: str, chosen_on: str) -> dict[str, Any]:
    """Score a family; return the entries of ``summary.json`` with their protocols."""
    values = evaluator(family)
    with stage("Computing the real-vs-real reference", evaluator.bar):
        references = evaluator.compute_references(family.device)
        full_references = evaluator.compute_full_references(family.device)
        trivial = evaluator.compute_trivial_scores(family.device)
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
        if name in references:
            classes = "as asked for" if evaluator.setting.conditional else "at random"
            entries[name]["protocol"] |= {"floor": references[name], "floor_classes": classes}
            if name in full_references:
                entries[name]["protocol"]["floor_of_all"] = full_references[name]
            # few training images raise the reference without being a bias of the estimate
            reference = full_references.get(name, references[name])
            if name in frechet and reference > MAX_REAL_VS_REAL_SHARE * values[name]:
                entries[name]["note"] = (
                    f"the real-vs-real score is {reference:.3g}, more than 10% of this "
                    "value; sample-size bias matters here"
                )
        mean_image = trivial.get(f"{name}_of_mean_image")
        if mean_image is not None and values[name] >= mean_image:
            entries[name]["note"] = (
                f"no better than the mean of the training images, repeated: {mean_image:.4g}"
            )
    for name, value in (evaluator.baselines() | trivial).items():
        protocol = evaluator.protocol(name, "none", "none")
        entries[name] = {"value": value, "higher_is_better": None, "protocol": protocol}
    for metric in evaluator.metrics:
        for name, reference_name in metric.reference_names.items():
            if name in entries and name in references:
                entries[reference_name] = entries[name] | {
                    "value": references[name],
                    "higher_is_better": None,
                }
    return entries


def own_best_scores(restored: RestoredRun, evaluator: Evaluator, chosen_on: str) -> dict[str, Any]:
    """Score each baseline at its own best checkpoint, as the family is, for a fair comparison."""
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


def neighbor_scores(
    folder: Path, evaluator: Evaluator, family: Family, described: str, chosen_on: str
) -> dict[str, Any]:
    """Measure the memorization of a latent-to-image generator, and draw ``neighbours.png``."""
    data = evaluator.data
    feature_scores = [metric for metric in evaluator.metrics if isinstance(metric, FeatureScores)]
    is_translation = bool(data.spec.source_channels)
    if not feature_scores or is_translation or data.spec.content == "points":
        return {}
    if len(data.train) < 2:
        return {}
    if len(data.train) > MIN_LOGGED_IMAGES:
        logger.info(f"Searching {len(data.train):,} training images for memorized ones")
    metric = feature_scores[0]
    values, protocol, pairs = find_neighbors(
        family, data, metric.extractor, evaluator.seed, fakes=_limit_fakes(evaluator)
    )
    record = {"output": "nearest training images", "run": name_run(folder)}
    save_grid(pairs, 8, folder / "neighbours.png", record=record)
    usual = evaluator.protocol(metric.names[0], described, chosen_on) | protocol
    entries: dict[str, Any] = {
        name: {"value": value, "higher_is_better": None, "protocol": usual}
        for name, value in values.items()
    }
    near_copies = entries.get(f"near_copies_{metric.extractor.name}")
    if near_copies is not None:
        expected, low, high = expect_near_share(protocol["fakes"], protocol["reals"])
        near_copies["note"] = (
            f"new images have {expected:.2g} on average, between {low:.2g} and {high:.2g} in 95% "
            "of evaluations"
        )
    return entries


def _limit_fakes(evaluator: Evaluator) -> int:
    """Return the number of samples to search for: no more than the user set for all scores."""
    return min(MAX_FAKES, evaluator.cfg.num_fakes or MAX_FAKES)


def leak_scores(
    evaluator: Evaluator, family: Family, described: str, chosen_on: str
) -> dict[str, Any]:
    """Measure augmentation leaks into the samples, if the training used augmentation."""
    if family.augmentation is None or not evaluator.metrics:
        return {}
    values, protocol = find_leaks(family, evaluator.data, evaluator.seed, _limit_fakes(evaluator))
    usual = evaluator.protocol(evaluator.metrics[0].names[0], described, chosen_on)
    usual = {
        key: value for key, value in usual.items() if key not in ("weights_sha256", "resize")
    } | protocol
    return {
        name: {"value": value, "higher_is_better": None, "protocol": usual}
        for name, value in values.items()
    }


def log_inception_cost(metrics: Sequence[Metric], setting: Setting, target: torch.device) -> None:
    """Log how long Inception will take on a CPU, measured on a few images."""
    if target.type != "cpu":
        return
    for metric in metrics:
        if not isinstance(metric, FeatureScores) or metric.extractor.name != "inception":
            continue
        images = torch.zeros(4, *setting.spec.shape, dtype=torch.uint8)
        start = time.monotonic()
        metric.extractor(images)
        seconds_per_image = (time.monotonic() - start) / len(images)
        seconds = seconds_per_image * (2 * setting.fakes + setting.reals)
        logger.info(
            f"Computing fid, kid and is of {setting.fakes:,} fakes and {setting.reals:,} reals: "
            f"about {format_duration(seconds)} on this CPU, less if the features of the reals are "
            "cached; metrics.inception_weights=off skips them"
        )
