"""The composition root: data facts and config in; family, metrics, callbacks and trainer out, in this order."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from gan_lab.config import loading
from gan_lab.config.schema import Config, with_values
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import ddp_strategy, detect
from gan_lab.distributed.lightning_internals import leave_signals_alone
from gan_lab.families.base import Family
from gan_lab.metrics import extractors
from gan_lab.metrics.evaluator import build_evaluator
from gan_lab.runs.folder import RunFolder, to_dict
from gan_lab.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from gan_lab.training.callbacks.csv_logger import CSVLogger
from gan_lab.training.callbacks.diversity import Diversity
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.finite_check import FiniteCheck
from gan_lab.training.callbacks.health import Health
from gan_lab.training.callbacks.notebook_display import NotebookDisplay, in_notebook
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.progress_bar import ProgressBar, ProgressLines
from gan_lab.training.callbacks.rank_consistency import RankConsistency
from gan_lab.training.callbacks.sample_grids import SampleGrids
from gan_lab.training.callbacks.tensorboard_logger import TensorBoardLogger
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.training.callbacks.wandb_logger import WandbLogger, is_disabled
from gan_lab.training.gradient_accumulation import accumulate
from gan_lab.training.warm_start import freeze_discriminators
from gan_lab.utils.errors import UserError, first_line


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints out of the output: the lab decides about workers, devices and checkpoints itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*does not have many workers.*"
        )  # workers=0 is faster here
        warnings.filterwarnings(
            "ignore", message=".*isinstance.treespec, LeafSpec.*"
        )  # Lightning with a newer torch
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


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
    torch.set_default_dtype(
        dtype
    )  # of what is drawn: float32 weights differ in their last bits between processors
    try:
        family: Family = family_class(spec=data.spec, config=config.model, seed=config.run.seed)
    finally:
        torch.set_default_dtype(torch.float32)
    freeze_discriminators(family, config)
    family.augment_by(config.augment)
    family.in_lab_loop = True
    family.to(
        dtype, memory_format=torch.channels_last
    )  # before weights are restored, or Lightning rounds to float32
    if config.run.compile:
        for network in family.children():
            network.compile()
    return family


def load_data(
    config: Config, dataset: Any = None, test: Any = None
) -> tuple[Config, GANDataModule]:
    """Read the data of a config and complete the config with what only the data know: their source and class names.

    ``dataset`` and ``test`` are data sets from Python (``gan_lab.train(data=...)``) in place of the
    configured one.
    """
    data = datasets.load(config.data, config.run.seed, dataset, test)
    facts = {"data.source": data.facts.source, "data.class_names": [*data.facts.class_names]}
    return with_values(config, facts), data


def build(
    config: Config,
    data: GANDataModule,
    run: RunFolder,
    extra: Sequence[Callback] = (),
    trackers: list[Tracker] | None = None,
    launched: detect.Launch | None = None,
) -> Experiment:
    """Build family, callbacks and trainer on data that were read by ``load_data``.

    Args:
        config: The complete config; nothing changes it from here on.
        data: The data module.
        run: The folder of the run.
        extra: Further callbacks, after the lab's own.
        trackers: Experiment trackers that are open already.
        launched: How the processes were started, if it is not what the launcher says.

    Raises:
        UserError: Values do not go together.
    """
    launched = launched or detect.detect_launcher(config.run)
    data.iterations = config.iterations
    family = build_family(config, data)
    data.follow(family)
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
        config.log.log_every_images,
        sample_grids.batch,
        extractor,
        family.conditional,
        config.run.seed,
        ema,
        progress,
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
        rank_consistency, progress, ema, finite_check, sample_grids, diversity, evaluation, csv_logger, health, checkpoint,
        *extra,
    ]  # fmt: skip
    if config.log.progress_bar:
        callbacks.append(build_progress_display(run, progress, csv_logger, evaluation))
    trainer = build_trainer(config, callbacks, launched)
    detect.check_batch_size(config, launched)
    notes += explain_batch_norm(config, family, launched)
    return Experiment(
        config, run, data, family, trainer, evaluation, checkpoint, health, trackers, notes
    )


def build_progress_display(
    run: RunFolder, progress: Progress, csv_logger: CSVLogger, evaluation: Evaluation
) -> Callback:
    """A cell in a notebook, a bar on a terminal, and lines in a log file."""
    if in_notebook():
        return NotebookDisplay(run.path, progress, csv_logger, evaluation)
    return (ProgressBar if Console().is_terminal else ProgressLines)(
        progress, csv_logger, evaluation
    )


def build_trackers(config: Config, run: RunFolder) -> list[Tracker]:
    """Everybody who is to watch a run beside its files, in the first process; none in others."""
    if rank() != 0:
        return []
    log, trackers = config.log, list[Tracker]()
    if not is_disabled(log.wandb):
        trackers.append(
            WandbLogger(
                log.wandb, run.path, run.experiment, run.id, to_dict(config), log.wandb_artifacts
            )
        )
    if log.tensorboard:
        trackers.append(TensorBoardLogger(run.path))
    return trackers


def explain_batch_norm(config: Config, family: Family, launched: detect.Launch) -> list[str]:
    """A note where batch norm is not over the whole batch, so that it is not the experiment of one process and one part."""
    normed = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in family.modules())
    processes, parts = (
        1 if torch.cuda.is_available() else launched.world_size,
        config.run.micro_batches,
    )
    if processes * parts == 1 or not normed:
        return []
    share, of = (
        config.data.batch_size // (processes * parts),
        [f"run.micro_batches={parts}"] if parts > 1 else [],
    )
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
        with quiet_lightning():
            trainer = Trainer(
                **ddp_strategy.trainer_options(launched, config.run),
                precision="32-true" if config.run.precision == "tf32" else config.run.precision,
                max_epochs=1,  # the order of the data runs on over all passes
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO(), ddp_strategy.create_environment(launched)],
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=any(
                    isinstance(callback, ProgressBar) for callback in callbacks
                ),
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                profiler=NoProfiler(),
            )
    except Exception as error:  # Lightning's own type for a device that is not there
        raise UserError(f"run.devices={config.run.devices}: {first_line(error)}") from None
    leave_signals_alone(trainer)
    return trainer
