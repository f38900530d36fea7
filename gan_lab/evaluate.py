"""Score a checkpoint of a run, and write ``summary.json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gan_lab import data as datasets
from gan_lab import device
from gan_lab.config.loading import expand_homes, parse
from gan_lab.config.schema import Config
from gan_lab.data.base import GANDataModule
from gan_lab.experiment import build_family, metric_setting
from gan_lab.families.base import Family
from gan_lab.images import save_grid
from gan_lab.metrics.evaluator import Evaluator
from gan_lab.metrics.feature_distance import FeatureDistance
from gan_lab.metrics.neighbours import find_neighbours
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.checkpoints import explain_mismatch, read_checkpoint
from gan_lab.runs.folder import RunFolder, to_dict
from gan_lab.runs.results import read_summary, write_summary

DATA_KEYS = ("data.root", "data.cache_gb", "data.workers")  # which may be given anew for a run that is there
logger = logging.getLogger("gan_lab")


def restore(folder: Path, weights: str, overrides: Sequence[str] = ()) -> tuple[Config, GANDataModule, Family, int]:
    """Restore a run: its config, its data, its family with averaged networks, and the iteration of the checkpoint.

    ``overrides`` say where the data are now. Raises ValueError if they are other data.
    """
    run = RunFolder(folder)
    config = _with_data_keys(run.config(), overrides)
    checkpoint = read_checkpoint(folder / "checkpoints" / f"{weights}.ckpt")
    data = datasets.load(config.data, config.run.seed)
    run.check_data(data.decoded.fingerprint)
    family = build_family(config, data)
    with explain_mismatch(folder):
        family.load_state_dict(checkpoint["state_dict"])
        for name, state in checkpoint["ema"].items():
            getattr(family, name).load_state_dict(state)
    family.eval().requires_grad_(False)
    return config, data, family.to(device.here()), checkpoint["iteration"]


def _with_data_keys(config: Config, overrides: Sequence[str]) -> Config:
    for word in overrides:
        if word.partition("=")[0] not in DATA_KEYS:
            raise ValueError(f"{word}: for an existing run only {', '.join(DATA_KEYS)} can be given")
    return expand_homes(parse([to_dict(config), OmegaConf.from_dotlist(list(overrides))]))


def evaluate(folder: Path, weights: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score a checkpoint (``weights``: best or last) by all metrics at hand; returns what summary.json then holds.

    Each value has its protocol beside it. ``neighbours.png`` shows samples and the training images nearest to them.
    """
    config, data, family, iteration = restore(folder, weights, overrides)
    cfg, setting = config.metrics, metric_setting(config, family, data, final=True)
    metrics = select_metrics(setting)
    for note in setting.notes:
        logger.info(note)
    evaluator = Evaluator(data, metrics, cfg, config.run.seed, shared=False)
    values, which = evaluator(family), f"ema {weights}, iteration {iteration}"
    scores: dict[str, Any] = {}
    for name, higher in evaluator.higher_is_better.items():
        if name in values:
            spread = {"spread": values[f"{name}_sd"]} if f"{name}_sd" in values else {}
            entry = {"value": values[name], **spread, "higher_is_better": higher}
            scores[name] = entry | {"protocol": evaluator.protocol(name, which)}
    compared = [metric for metric in metrics if isinstance(metric, FeatureDistance)]
    if compared and not data.spec.source_channels and data.spec.content != "points" and len(data.train) > 1:
        ratio, protocol, pairs = find_neighbours(family, data, compared[0], cfg, config.run.seed)
        name = f"nearest_ratio_{compared[0].extractor.name}"
        score_protocol = evaluator.protocol(compared[0].names[0], which) | protocol
        if ratio is not None:
            score_protocol |= {"split": "train and held_out"}
            scores[name] = {"value": ratio, "higher_is_better": None, "protocol": score_protocol}
        save_grid(pairs, 8, folder / "neighbours.png")
    summary: dict[str, Any] = {"experiment": RunFolder(folder).experiment, "iteration": iteration}
    summary |= {"images": iteration * config.data.batch_size} | read_summary(folder)
    summary["scores"] = summary.get("scores", {}) | {weights: scores}
    write_summary(folder, summary)
    return summary
