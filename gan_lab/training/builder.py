"""Build an experiment: config to family, data, callbacks and trainer. The only file that knows everybody."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from rich.console import Console
from torch import nn

from gan_lab import data as datasets
from gan_lab import device, seeding
from gan_lab.config import extensions, loading
from gan_lab.config.schema import Config, with_values
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import ddp_strategy, detect
from gan_lab.distributed.lightning_internals import leave_signals_alone
from gan_lab.families.base import Family
from gan_lab.metrics import extractors
from gan_lab.metrics.base import Setting
from gan_lab.metrics.evaluator import Evaluator, count_images
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.folder import RunFolder, to_dict
from gan_lab.training.callbacks.adaptive_augmentation import AdaptiveAugmentation
from gan_lab.training.callbacks.budget import Progress
from gan_lab.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from gan_lab.training.callbacks.csv_logger import CSVLogger
from gan_lab.training.callbacks.diversity import Diversity
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.finite_check import FiniteCheck
from gan_lab.training.callbacks.health import Health
from gan_lab.training.callbacks.progress_bar import ProgressBar, ProgressLines
from gan_lab.training.callbacks.rank_consistency import RankConsistency
from gan_lab.training.callbacks.sample_grids import SampleGrids
from gan_lab.training.callbacks.tensorboard_logger import TensorBoardLogger
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.training.callbacks.wandb_logger import WandbLogger, is_disabled
from gan_lab.training.gradient_accumulation import accumulate
from gan_lab.training.warm_start import freeze_discriminators
from gan_lab.utils.errors import UserError, first_line

for part in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(part).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # workers=0 gathers whole batches: faster
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning with a newer torch


def rank() -> int:
    """This process's number among all of the training."""
    return int(getattr(rank_zero_only, "rank", 0))


@dataclass
class Experiment:
    """Everything that one run is made of."""

    config: Config
    run: RunFolder
    data: GANDataModule
    family: Family
    trainer: Trainer
    evaluation: Evaluation
    checkpoint: Checkpoint
    health: Health
    trackers: list[Tracker]
    notes: list[str]  # which scores are left out, and why

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.run.experiment

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.family.iteration * self.config.data.batch_size


def build_family(config: Config, data: GANDataModule) -> Family:
    """The family on freshly drawn weights. Raises UserError if the data does not suit it."""
    family_class = loading.family_class(config.family)
    if config.data.labels_per_class and not family_class.semi_supervised:
        raise UserError(
            f"data.labels_per_class={config.data.labels_per_class}: {config.family} cannot learn from a few labels, "
            "family sgan can"
        )
    if config.run.compile:
        device.check_compiler()
    device.set_precision(config.run.precision)
    seeding.seed_torch(config.run.seed, "weights")
    dtype = torch.float64 if config.run.precision == "64-true" else torch.float32
    torch.set_default_dtype(dtype)  # of what is drawn: float32 weights differ in their last bits between processors
    try:
        family: Family = family_class(data.spec, config.model, config.run.seed)
    finally:
        torch.set_default_dtype(torch.float32)
    freeze_discriminators(family, config)
    family.augment_by(config.augment, config.data.batch_size)
    family.to(dtype, memory_format=torch.channels_last)  # before weights are restored, or Lightning rounds to float32
    if config.run.compile:
        for network in family.children():
            network.compile()
    return family


def build(
    config: Config,
    run: RunFolder,
    extra: Sequence[Callback] = (),
    trackers: list[Tracker] | None = None,
    launched: detect.Launch | None = None,
) -> Experiment:
    """Build data, family, callbacks and trainer of a config.

    ``extra``: further callbacks; ``trackers``: those that are open already; ``launched``: if it is not what the
    launcher says. Raises UserError for values that do not go together.
    """
    launched = launched or detect.detect_launcher(config.run)
    data = datasets.load(config.data, config.run.seed)
    data.iterations = config.iterations
    config = with_values(config, {"data.source": data.decoded.source, "data.class_names": data.class_names})
    family = build_family(config, data)
    accumulate(family, config.run.micro_batches)
    evaluator, headline, notes = build_evaluator(config, family, data)
    trackers = build_trackers(config, run) if trackers is None else trackers

    images_every = config.log.grid_every_images or config.run.evaluate_every_images
    progress = Progress(config.data.batch_size, config.iterations)
    ema = EMA(config.ema, progress)
    evaluation = Evaluation(evaluator, headline, config.run.evaluate_every_images, ema, progress)
    sample_grids = SampleGrids(
        run.path, images_every, data, family.conditional, config.run.seed, ema, progress, trackers
    )
    extractor = extractors.load(extractors.default(data.spec))
    diversity = Diversity(
        config.log.log_every_images, sample_grids.batch, extractor, family.conditional, config.run.seed, ema, progress
    )
    csv_logger = CSVLogger(run.path, config.log.log_every_images, progress, evaluation, trackers)
    finite_check = FiniteCheck(
        (config.log.log_every_images, images_every, config.run.evaluate_every_images), ema, progress
    )
    health = Health(run.path, progress, csv_logger, trackers)
    at_start = config.health.on_nan == "rollback"
    checkpoint = Checkpoint(run.path / "checkpoints", progress, evaluation, finite_check, at_start)
    rank_consistency = RankConsistency(data=data.decoded.fingerprint, budget=config.iterations)
    callbacks: list[Callback] = [  # in this order at the end of each iteration
        rank_consistency, progress, AdaptiveAugmentation(), ema, finite_check, sample_grids, diversity, evaluation, csv_logger, health, checkpoint,
        *extra,
    ]  # fmt: skip
    if config.log.progress_bar:
        callbacks.append((ProgressBar if Console().is_terminal else ProgressLines)(progress, csv_logger, evaluation))
    trainer = build_trainer(config, callbacks, launched)
    detect.check_batch_size(config, launched)
    notes += explain_batch_norm(config, family, launched)
    return Experiment(config, run, data, family, trainer, evaluation, checkpoint, health, trackers, notes)


def build_trackers(config: Config, run: RunFolder) -> list[Tracker]:
    """Everybody who is to watch a run beside its files, in the first process; none in others."""
    if rank() != 0:
        return []
    log, trackers = config.log, list[Tracker]()
    if not is_disabled(log.wandb):
        trackers.append(WandbLogger(log.wandb, run.path, run.experiment, run.id, to_dict(config), log.wandb_artifacts))
    if log.tensorboard:
        trackers.append(TensorBoardLogger(run.path))
    return trackers


def build_evaluator(config: Config, family: Family, data: GANDataModule) -> tuple[Evaluator, str | None, list[str]]:
    """Build what scores a family during its training; the score that chooses best.ckpt; and notes of what is left out.

    Raises UserError for inception weights that are not there, and for a ``metrics.headline`` that cannot choose.
    """
    if config.metrics.inception_weights not in ("auto", "off"):
        extractors.load("inception", config.metrics)  # a wrong file is found now, not at the end
    setting = metric_setting(config, family, data)
    evaluator = Evaluator(data, select_metrics(setting), setting, config.run.seed)
    scores = evaluator.higher_is_better
    headline = config.metrics.headline or next(iter(scores), None)
    if headline and headline not in scores:
        raise UserError(
            extensions.explain_unknown_name("score", headline, list(scores))
            + "".join(f"; {note}" for note in setting.notes)
            + f" (metrics.headline={headline})"
        )
    if headline and scores[headline] is None:
        raise UserError(f"metrics.headline={headline}: more of it is neither better nor worse, so it cannot choose")
    return evaluator, headline, setting.notes


def metric_setting(config: Config, family: Family, data: GANDataModule, final: bool = False) -> Setting:
    """Collect what metrics ask of a family, its data and its config."""
    split = "validation" if config.metrics.split == "test" and not final else config.metrics.split
    gpu = device.here().type == "cuda"
    reals, fakes = count_images(config.metrics, data.spec, data.available(split), final, gpu)
    names = tuple(family.output_names)
    return Setting(data.spec, config.metrics, names, family.conditional, split, reals, fakes, final)


def explain_batch_norm(config: Config, family: Family, launched: detect.Launch) -> list[str]:
    """A note where batch norm is not over the whole batch, so that it is not the experiment of one process and one part."""
    normed = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in family.modules())
    processes, parts = 1 if torch.cuda.is_available() else launched.world_size, config.run.micro_batches
    if processes * parts == 1 or not normed:
        return []
    share, of = config.data.batch_size // (processes * parts), [f"run.micro_batches={parts}"] if parts > 1 else []
    of += [f"{processes} processes on CPUs"] if processes > 1 else []
    return [
        f"{', '.join(of)}: batch norm is over {share} images at a time, not over all {config.data.batch_size}, so this is "
        "another experiment than that of the whole batch at once"
    ]


class NoProfiler(PassThroughProfiler):
    """Lightning's own that measures nothing, without the generator that it makes for each hook of each callback."""

    _nothing: AbstractContextManager[Any] = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing


def build_trainer(config: Config, callbacks: list[Callback], launched: detect.Launch) -> Trainer:
    """Lightning's trainer, with everything that it would do on its own and the lab does otherwise switched off."""
    try:
        trainer = Trainer(
            **ddp_strategy.trainer_options(launched, config.run),
            precision="32-true" if config.run.precision == "tf32" else config.run.precision,
            max_epochs=1,  # the order of the data runs on over all passes
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), ddp_strategy.create_environment(launched)],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            profiler=NoProfiler(),
        )
    except Exception as error:  # Lightning's own type for a device that is not there
        raise UserError(f"run.devices={config.run.devices}: {first_line(error)}") from None
    leave_signals_alone(trainer)
    return trainer
