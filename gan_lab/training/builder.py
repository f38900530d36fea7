"""Composition root: builds family, metrics, callbacks and trainer from a config and its data."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
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
from gan_lab.config.extensions import find_class
from gan_lab.config.schema import Config, with_values
from gan_lab.config.values import check_names
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import ddp_strategy, detect
from gan_lab.distributed.lightning_internals import leave_signals_alone
from gan_lab.families.base import Family
from gan_lab.metrics import extractors
from gan_lab.metrics.evaluator import build_evaluator, build_setting
from gan_lab.runs.run_folder import RunFolder, to_dict
from gan_lab.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from gan_lab.training.callbacks.csv_logger import CSVLogger
from gan_lab.training.callbacks.diversity import Diversity
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.finite_check import FiniteCheck
from gan_lab.training.callbacks.health import Health
from gan_lab.training.callbacks.live_page import LivePage
from gan_lab.training.callbacks.notebook_display import NotebookDisplay, in_notebook
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.progress_bar import ProgressBar, ProgressLines
from gan_lab.training.callbacks.rank_consistency import RankConsistency
from gan_lab.training.callbacks.sample_grids import SampleGrids
from gan_lab.training.callbacks.tensorboard_logger import TensorBoardLogger
from gan_lab.training.callbacks.time_left import TimeLeft
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.training.callbacks.trackio_logger import TrackioLogger
from gan_lab.training.callbacks.wandb_logger import WandbLogger, is_disabled
from gan_lab.training.gradient_accumulation import accumulate
from gan_lab.training.step_graph import capture_steps
from gan_lab.training.warm_start import freeze_discriminators
from gan_lab.utils.errors import UserError, first_line

# in a note on classes without images
MAX_NAMED_CLASSES = 10
# without augmentation a discriminator memorizes this number of images, docs/few_images.md
MAX_MEMORIZED_IMAGES = 100


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's hints: the lab handles workers, devices and checkpoints itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # batches of decoded images are gathered faster without workers
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning with a newer torch
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def rank() -> int:
    """Return the global rank of this process."""
    return int(getattr(rank_zero_only, "rank", 0))


@dataclass
class Experiment:
    """The objects of one run; ``notes`` are log lines, such as skipped metrics with the reason."""

    config: Config
    run: RunFolder
    data: GANDataModule
    family: Family
    trainer: Trainer
    ema: EMA
    evaluation: Evaluation
    checkpoint: Checkpoint
    health: Health
    trackers: list[Tracker]
    notes: list[str]

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.run.experiment

    @property
    def images(self) -> int:
        """Training images seen so far."""
        return self.family.iteration * self.config.data.batch_size


def build_family(config: Config, data: GANDataModule) -> Family:
    """Build the family with newly initialized weights.

    Raises:
        UserError: The family does not support the data.
    """
    family_class = loading.family_class(config.family)
    if config.data.labels_per_class and not family_class.semi_supervised:
        raise UserError(
            f"data.labels_per_class={config.data.labels_per_class}: {config.family} is not "
            "semi-supervised. Use family=sgan"
        )
    if config.run.compile:
        device.check_compiler()
    device.set_precision(config.run.precision)
    seeding.seed_torch(config.run.seed, "weights")
    # initialize in the dtype of the training: float32 random numbers differ in their last bits
    # between CPUs
    dtype = torch.float64 if config.run.precision == "64-true" else torch.float32
    torch.set_default_dtype(dtype)
    try:
        family: Family = family_class(spec=data.spec, config=config.model, seed=config.run.seed)
    finally:
        torch.set_default_dtype(torch.float32)
    freeze_discriminators(family, config)
    family.augment_by(config.augment)
    family.in_lab_loop = True
    # before weights are restored: otherwise Lightning would round float64 weights to float32
    family.to(dtype, memory_format=torch.channels_last)
    if config.run.compile:
        for network in family.children():
            network.compile()
    return family


def load_data(
    config: Config, dataset: Any = None, test: Any = None
) -> tuple[Config, GANDataModule]:
    """Load the data, and complete the config with the source, class names and levels of the data.

    Args:
        config: The config.
        dataset: A data set from Python (``gan_lab.train(data=...)``), which replaces the configured
            one.
        test: Its test images.
    """
    data = datasets.load(config.data, config.run.seed, dataset, test)
    check_names("the class names of the data set", data.facts.class_names)
    facts = {
        "data.source": data.facts.source,
        "data.class_names": [*data.facts.class_names],
        "data.levels": [*data.facts.levels],
    }
    return with_values(config, facts), data


def build(
    config: Config,
    data: GANDataModule,
    run: RunFolder,
    extra: Sequence[Callback] = (),
    trackers: list[Tracker] | None = None,
    launched: detect.Launch | None = None,
) -> Experiment:
    """Build family, callbacks and trainer.

    Args:
        config: The complete config, as returned by ``load_data``.
        data: The data module, as returned by ``load_data``.
        run: The run folder.
        extra: Additional callbacks, which run after the built-in ones.
        trackers: Open experiment trackers; by default new ones are created.
        launched: How the processes were started; by default detected from the launcher.

    Raises:
        UserError: The config is inconsistent, or does not suit the data.
    """
    launched = launched or detect.detect_launcher(config.run)
    data.iterations = config.iterations
    family = build_family(config, data)
    data.follow(family)
    accumulate(family, config.run.micro_batches)
    capture_steps(family, config, launched.world_size, bool(extra))
    evaluator, headline, notes = build_evaluator(config, family, data)
    trackers = build_trackers(config, run) if trackers is None else trackers

    log_every = config.log.log_every_images
    evaluate_every = config.run.evaluate_every_images
    grid_every = config.log.grid_every_images
    progress = Progress(config.data.batch_size, config.iterations)
    ema = EMA(config.ema, progress)
    evaluation = Evaluation(evaluator, headline, evaluate_every, ema, progress)
    sample_grids = SampleGrids(
        run.path,
        grid_every,
        evaluate_every,
        data,
        family.conditional,
        config.run.seed,
        ema,
        progress,
        trackers,
    )
    extractor = extractors.load(extractors.choose_default(data.spec))
    diversity = Diversity(
        log_every,
        data.health_batch(family.conditional),
        extractor,
        family.conditional,
        config.run.seed,
        ema,
        progress,
        data.rated_batches(),
    )
    csv_logger = CSVLogger(run.path, log_every, progress, evaluation, trackers)
    # grids that the clock decides are drawn on rank 0 alone, so they check their own images
    checked = (
        (log_every, evaluate_every)
        if grid_every is None
        else (log_every, grid_every, evaluate_every)
    )
    finite_check = FiniteCheck(checked, ema, progress)
    health = Health(run.path, progress, csv_logger, trackers, family.adversarial_loss)
    at_start = config.health.on_nan == "rollback"
    checkpoint = Checkpoint(run.path / "checkpoints", progress, evaluation, finite_check, at_start)
    final_fakes = build_setting(config, family, data, final=True).fakes
    time_left = TimeLeft(progress, evaluation, final_fakes)
    rank_consistency = RankConsistency(data=data.decoded.fingerprint, budget=config.iterations)
    # Lightning calls them in this order after each iteration: checks precede everything that uses
    # the weights, and the checkpoint includes the state of all others
    callbacks: list[Callback] = [
        rank_consistency,
        progress,
        ema,
        finite_check,
        sample_grids,
        diversity,
        evaluation,
        csv_logger,
        health,
        checkpoint,
        *load_callbacks(config.run.callbacks),
        *extra,
    ]
    if config.log.live_page:
        class_names = list(config.data.class_names)
        callbacks.append(LivePage(run.path, class_names, ema, progress, sample_grids, time_left))
    if config.log.progress_bar:
        callbacks.append(build_progress_display(run, progress, csv_logger, evaluation, time_left))
    trainer = build_trainer(config, callbacks, launched)
    detect.check_batch_size(config, launched)
    notes += explain_budget(config, family, data)
    notes += explain_batch_norm(config, family, launched)
    notes += explain_missing_classes(data)
    return Experiment(
        config, run, data, family, trainer, ema, evaluation, checkpoint, health, trackers, notes
    )


def load_callbacks(names: Sequence[str]) -> list[Callback]:
    """Create the callbacks of ``run.callbacks``.

    Raises:
        UserError: A class does not exist, is no Lightning callback, or needs arguments.
    """
    callbacks = []
    for name in names:
        callback_class = find_class(name, "run.callbacks")
        if not (isinstance(callback_class, type) and issubclass(callback_class, Callback)):
            raise UserError(
                f"run.callbacks: {name} is not a lightning.pytorch.Callback. Name a subclass"
            )
        required = [
            parameter.name
            for parameter in inspect.signature(callback_class).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if required:
            raise UserError(
                f"run.callbacks: {name} needs arguments: {', '.join(required)}. Give them defaults"
            )
        callbacks.append(callback_class())
    return callbacks


def build_progress_display(
    run: RunFolder,
    progress: Progress,
    csv_logger: CSVLogger,
    evaluation: Evaluation,
    time_left: TimeLeft,
) -> Callback:
    """Build the progress display for a notebook, a terminal or a log file."""
    if in_notebook():
        return NotebookDisplay(run.path, progress, csv_logger, evaluation, time_left)
    display = ProgressBar if Console().is_terminal else ProgressLines
    return display(progress, csv_logger, evaluation, time_left)


def build_trackers(config: Config, run: RunFolder) -> list[Tracker]:
    """Create the experiment trackers of the config on rank 0; other ranks have none."""
    if rank() != 0:
        return []
    log = config.log
    trackers: list[Tracker] = []
    if not is_disabled(log.wandb):
        labels = {
            "project": log.wandb_project,
            "entity": log.wandb_entity,
            "tags": log.wandb_tags,
            "notes": log.wandb_notes,
        }
        trackers.append(
            WandbLogger(
                log.wandb, run.path, run.experiment, run.id, to_dict(config), log.wandb_artifacts,
                labels,
            )
        )  # fmt: skip
    if log.tensorboard:
        trackers.append(TensorBoardLogger(run.path))
    if log.trackio:
        trackers.append(TrackioLogger(log.wandb_project, run.experiment, run.id, to_dict(config)))
    for tracker in trackers:
        tracker.sends_reals = log.wandb_reals or not config.data.is_own
    return trackers


def explain_batch_norm(config: Config, family: Family, launched: detect.Launch) -> list[str]:
    """Explain that batch norm statistics are not those of the global batch, if so.

    On GPUs batch norm is synchronized between the processes, but not between micro-batches.
    """
    has_batch_norm = any(
        isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in family.modules()
    )
    processes = 1 if torch.cuda.is_available() else launched.world_size
    micro_batches = config.run.micro_batches
    if processes * micro_batches == 1 or not has_batch_norm:
        return []
    causes = []
    if micro_batches > 1:
        causes.append(f"run.micro_batches={micro_batches}")
    if processes > 1:
        causes.append(f"{processes} processes on CPUs")
    images = config.data.batch_size // (processes * micro_batches)
    return [
        f"{', '.join(causes)}: batch norm uses the statistics of {images} images instead of the "
        f"whole batch of {config.data.batch_size}, so results differ from those of full batches"
    ]


def explain_budget(config: Config, family: Family, data: GANDataModule) -> list[str]:
    """Say how often each training image is seen, and warn of a data set easy to memorize."""
    count = len(data.train)
    if data.spec.content == "points" or not count:
        return []
    total = config.iterations * config.data.batch_size
    repeats = total / count
    shown = f"{repeats:,.0f}" if repeats >= 10 else f"{repeats:.2g}"
    notes = [f"{total:,} images in all: each of {count:,} training images {shown} times"]
    if count <= MAX_MEMORIZED_IMAGES and repeats > 1:
        remedies = ["more images", "fewer run.images"]
        if hasattr(family, "discriminator") and not data.spec.source_channels:
            remedies += ["augment=ada"] if config.augment.policy == "off" else []
        notes.append(
            f"{count:,} training images are few: the model may memorize them. "
            f"Try {', '.join(remedies)}"
        )
    return notes


def explain_missing_classes(data: GANDataModule) -> list[str]:
    """Name the classes without training, validation or test images, if any.

    A subset of the training images (``data.images``) may miss a class.
    """
    notes = []
    for name, split in (
        ("training", data.train),
        ("validation", data.validation),
        ("test", data.test),
    ):
        if split.labels is None:
            continue
        present = set(np.unique(split.labels).tolist())
        missing = [each for i, each in enumerate(data.class_names) if i not in present]
        if missing:
            shown = ", ".join(missing[:MAX_NAMED_CLASSES])
            more = len(missing) - MAX_NAMED_CLASSES
            shown += f" and {more} more" if more > 0 else ""
            consequence = (
                "the model does not learn them"
                if name == "training"
                else f"scores on the {name} set say nothing about them"
            )
            notes.append(
                f"No {name} images of {len(missing)} of {len(data.class_names)} classes ({shown}): "
                f"{consequence}"
            )
    return notes


class NoProfiler(PassThroughProfiler):
    """A profiler without overhead: Lightning's default creates a generator for each hook."""

    _context: AbstractContextManager[Any] = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Return a context that does nothing."""
        return self._context


def build_trainer(config: Config, callbacks: list[Callback], launched: detect.Launch) -> Trainer:
    """Build Lightning's trainer without the features that the lab implements itself."""
    try:
        with quiet_lightning():
            trainer = Trainer(
                **ddp_strategy.trainer_options(launched, config.run),
                precision="32-true" if config.run.precision == "tf32" else config.run.precision,
                # the batch sampler iterates over the data until the budget is spent
                max_epochs=1,
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
    except Exception as error:
        # Lightning raises several exception types for unavailable devices.
        raise UserError(f"run.devices={config.run.devices}: {first_line(error)}") from None
    leave_signals_alone(trainer)
    return trainer
