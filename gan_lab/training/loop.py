"""Train an experiment: resume, fit, roll back on divergence, then evaluate and report."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from gan_lab import device, report
from gan_lab.config.loading import RUN_ID_ORIGIN, LoadedConfig
from gan_lab.config.schema import Config, with_values
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import detect
from gan_lab.distributed.ddp_strategy import ManualDDPStrategy
from gan_lab.distributed.lightning_internals import set_rank
from gan_lab.images import draw_grid
from gan_lab.runs.alert import Alert
from gan_lab.runs.checkpoints import explain_mismatch, latest_checkpoint, read_checkpoint
from gan_lab.runs.results import write_summary
from gan_lab.runs.run import Run
from gan_lab.runs.run_files import check_deletable
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import auto_budget, warm_start
from gan_lab.training.builder import Experiment, build, load_data, quiet_lightning, rank
from gan_lab.training.callbacks.checkpoint import PREEMPTION_SIGNALS, branch_off
from gan_lab.training.callbacks.finite_check import DivergedError
from gan_lab.training.callbacks.tracker import FinalSample
from gan_lab.training.callbacks.wandb_logger import WandbLogger
from gan_lab.training.final_evaluation import evaluate_all
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

MAX_ROLLBACKS_PER_RUN = 3
# of the trackers' table of final samples
MAX_SAMPLED_CLASSES = 20
SAMPLES_PER_CLASS = 4
UNCONDITIONAL_SAMPLES = 16
logger = logging.getLogger("gan_lab")


@rank_zero_only
def announce(text: str) -> None:
    """Log a line on rank 0."""
    logger.info(text)


def train(
    loaded: LoadedConfig, overrides: Sequence[str], dataset: Any = None, test: Any = None
) -> int:
    """Train or resume an experiment, and evaluate it.

    Args:
        loaded: The experiment.
        overrides: The overrides that it was loaded with, for ``command.txt``.
        dataset: A data set from Python, which replaces the configured one.
        test: Its test images; by default 10% of ``dataset``.

    Returns:
        The exit code: 0, or 128 + the signal that stopped the training.

    Raises:
        UserError: The config is invalid, or the training diverged.
        OSError: A file cannot be read or written.
    """
    run = RunFolder.of(loaded)
    launched = detect.detect_launcher(loaded.config.run)
    set_rank(launched.rank)
    config = adapt_to_start(loaded.config, run, launched)
    if config.run.overwrite and run.is_run:
        # before the data are read; prepare() checks again under the lock
        check_deletable(run.path)
    if loaded.automatic_keys:
        adapted = replace(loaded, config=config)
        config = auto_budget.resolve(adapted, run, launched, dataset, test)
    finished = None if config.run.overwrite else run.finished(config)
    if finished:
        # The run was killed between its evaluation and its report.
        if rank() == 0 and report.is_outdated(run.path):
            report.write_or_warn([run.path])
        announce(
            f"{run.path} is already finished ({finished.images:,} images). Train longer: "
            "run.images=...; second run: run.id=...; start over: run.overwrite=true"
        )
        return 0
    if loaded.origin.get("run.id") == RUN_ID_ORIGIN:
        announce(f"run.id={run.id}, from the {RUN_ID_ORIGIN}")
    command = ["train", loaded.experiment, *overrides]
    with quiet_lightning():
        return train_run(*load_data(config, dataset, test), run, launched, command)


def adapt_to_start(config: Config, run: RunFolder, launched: detect.Launch) -> Config:
    """Adapt a config to a restart or a resumed run.

    A restart by the launcher must not overwrite the run, and a resumed run keeps its data source.
    """
    overwrite = config.run.overwrite and not launched.is_restart
    is_resumed = run.has_config and not overwrite
    source = config.data.source
    if is_resumed and source == "auto":
        source = Run(run.path).config.data.source
    return with_values(config, {"run.overwrite": overwrite, "data.source": source})


def train_run(
    config: Config,
    data: GANDataModule,
    run: RunFolder,
    launched: detect.Launch,
    command: Sequence[str],
) -> int:
    """Train a run with a complete config and loaded data; return the exit code of ``train``."""
    # Build before anything is written or deleted: an invalid config must leave the run folder
    # unchanged.
    built = build(config, data, run, launched=launched)
    announce(data.facts.about)
    for note in built.notes:
        announce(note)
    is_new = config.run.overwrite or not any((run.path / "checkpoints").glob("*.ckpt"))
    loaded = warm_start.load_initial_weights(built.family, built.ema, config) if is_new else None
    with run.locked() if rank() == 0 else nullcontext():
        # The lock comes first: a job that is ending still replaces its checkpoints.
        checkpoint = choose_checkpoint(built)
        if checkpoint:
            loaded = None
        elif not is_new:
            loaded = warm_start.load_initial_weights(built.family, built.ema, config)
        if loaded:
            announce(str(loaded))
        if rank() == 0:
            run.prepare(config, command, data.facts.fingerprint, data.facts.about)
            if loaded:
                write_text(run.path / "start_from.txt", f"{loaded}\n")
        if checkpoint:
            resume(built, checkpoint)
        code = fit_and_conclude(built, checkpoint)
    # torchrun and srun kill the other ranks as soon as one exits with an error code
    if code > 128:
        detect.barrier_if_distributed()
    return code if rank() == 0 or code > 128 else 0


def choose_checkpoint(built: Experiment) -> Path | None:
    """Return the checkpoint that a training resumes from; None if it starts.

    Rank 0, which holds the lock of the run folder, decides for all ranks: others could look before
    an ending job has replaced its checkpoints.

    Raises:
        UserError: No checkpoint can be read, or this machine does not have the one of rank 0.
    """
    folder = built.run.path
    # The others look too, so that all stop at once if no checkpoint can be read.
    latest = None if built.config.run.overwrite else latest_checkpoint(folder)
    name = latest.name if latest and rank() == 0 else None
    strategy = built.trainer.strategy
    if isinstance(strategy, ManualDDPStrategy):
        # Only other ranks wait here, so a signal must not be lost.
        if rank() != 0:
            built.checkpoint.listen(*PREEMPTION_SIGNALS)
        with explain_lost_connection(built.config):
            name = strategy.share_from_first_rank(name)
    path = folder / "checkpoints" / name if name else None
    if path and not path.is_file():
        raise UserError(
            f"rank {rank()} has no {path}, from which rank 0 resumes. run.root must be a folder "
            "shared by all machines"
        )
    return path


@contextmanager
def explain_lost_connection(config: Config) -> Iterator[None]:
    """Convert an error of the connection to the other ranks to one that names the lost ranks."""
    try:
        yield
    except Exception as error:
        if detect.is_connection_error(error):
            launched = detect.detect_launcher(config.run)
            raise detect.explain_lost_ranks(launched, error, config.run.timeout_s) from None
        raise


def resume(built: Experiment, path: Path) -> None:
    """Load the weights of a checkpoint of the run; the Trainer loads the rest.

    Raises:
        UserError: The checkpoint does not match the networks.
    """
    checkpoint = read_checkpoint(path)
    with explain_mismatch(path):
        built.family.load_state_dict(checkpoint["state_dict"])
        built.family.iteration = checkpoint["iteration"]
        for tracker in built.trackers:
            tracker.id = find_tracker_id(checkpoint["callbacks"]["CSVLogger"], tracker.name)
    announce(f"Resuming {built.run.path} from iteration {checkpoint['iteration']:,}")


def find_tracker_id(state: dict[str, Any], name: str) -> str | None:
    """Find the id of a run in a tracker, in the state of the rows of a checkpoint."""
    if "tracker_ids" in state:
        found: str | None = state["tracker_ids"].get(name)
        return found
    # older checkpoints have the id of W&B alone
    wandb_id: str | None = state["wandb_id"] if name == WandbLogger.name else None
    return wandb_id


def fit_and_conclude(built: Experiment, path: Path | None) -> int:
    """Train, evaluate and close the trackers; return the exit code.

    Raises:
        UserError: The training diverged and could not be rolled back.
    """
    for tracker in built.trackers:
        tracker.start(built.images)
        if description := tracker.describe():
            announce(description)
    started = time.time()
    built, diverged = fit(built, path)
    caught = built.checkpoint.signal
    code = 2 if diverged else 0
    if caught:
        code = 128 + caught
    if rank() != 0:
        return code
    if code == 0:
        conclude(built, time.time() - started)
    elif not diverged:
        announce(
            f"Stopped by signal {caught}; checkpoint saved. Repeat the command to resume "
            f"{built.run.path}"
        )
    for tracker in built.trackers:
        if caught == signal.SIGTERM:
            tracker.mark_preempted()
        tracker.finish(code)
    # Last, because the scheduler may kill a preempted job soon: then only the page is lost.
    if caught and report.is_live(built.run.path):
        with warnings.catch_warnings():
            # before the first evaluation the page has the newest checkpoint
            warnings.filterwarnings("ignore", message=r".* has no best\.ckpt")
            report.write_or_warn([built.run.path])
    if diverged:
        report.write_or_warn([built.run.path])
        raise UserError(explain_divergence(built, diverged))
    return code


def fit(built: Experiment, path: Path | None) -> tuple[Experiment, DivergedError | None]:
    """Train from a checkpoint or from the start, with rollbacks.

    Returns:
        The experiment, which a rollback rebuilds, and the error of a divergence that was not rolled
        back.
    """
    while True:
        built.checkpoint.listen(*PREEMPTION_SIGNALS)
        try:
            with explain_lost_connection(built.config):
                built.trainer.fit(
                    built.family, datamodule=built.data, ckpt_path=path, weights_only=True
                )
            return built, None
        except DivergedError as diverged:
            if built.config.health.on_nan == "stop" or built.family.branch >= MAX_ROLLBACKS_PER_RUN:
                return built, diverged
            built, path = roll_back(built, diverged)
        except SystemExit as error:
            # Lightning turns a Ctrl-C before the first iteration into SystemExit.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def roll_back(built: Experiment, diverged: DivergedError) -> tuple[Experiment, Path]:
    """Rebuild a run from its last good checkpoint, on the next branch (random seed).

    The branch is written to the checkpoint, so that a killed run resumes on it.
    """
    latest = latest_checkpoint(built.run.path) if rank() == 0 else None
    # the name, because run.root may be another path on another machine
    name = built.trainer.strategy.broadcast(latest.name if latest else None)
    branch = built.family.branch + 1
    # health.on_nan=rollback writes a checkpoint before the first iteration
    assert name is not None
    path = built.run.path / "checkpoints" / name
    if rank() == 0:
        iteration = read_checkpoint(path)["iteration"]
        sentence = (
            f"Rolled back to iteration {iteration:,} with a new random seed "
            f"(rollback {branch} of {MAX_ROLLBACKS_PER_RUN})"
        )
        alert = Alert("rollback", diverged.iteration, diverged.images, sentence)
        built.health.report(alert, is_global_zero=True)
        branch_off(path, branch, [asdict(alert) for alert in built.health.alerts[-2:]])
    detect.barrier_if_distributed()
    return build(built.config, built.data, built.run, trackers=built.trackers), path


def explain_divergence(built: Experiment, diverged: DivergedError) -> str:
    """Return the error message for a training that diverged, with remedies."""
    path = latest_checkpoint(built.run.path)
    branch = built.family.branch
    last = f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"
    tried = f" after {branch} rollbacks" if branch else ""
    remedies = "lower learning rates, a gradient penalty or run.precision=32-true"
    if not branch:
        remedies += ", or health.on_nan=rollback, which resumes from there with a new random seed"
    return f"{diverged}{tried}; {last}. Try {remedies}"


def conclude(built: Experiment, seconds: float) -> None:
    """Run the final evaluation, and write summary.json and the report."""
    iteration = built.family.iteration
    evaluator = built.evaluation.evaluator
    summary = {
        "experiment": built.name,
        "run_id": built.run.id,
        "iteration": iteration,
        "images": built.images,
        "headline": built.evaluation.headline,
        "data": built.data.facts.about,
        "validation": built.evaluation.scores,
        "validation_split": evaluator.setting.split,
        "validation_floors": evaluator.compute_references(built.family.device),
        "best_iteration": built.evaluation.best_at,
        "seconds_of_last_start": round(seconds, 1),
        "peak_memory_mb": round(device.peak_memory()),
        "health": [asdict(alert) for alert in built.health.alerts],
    }
    write_summary(built.run.path, summary)
    try:
        evaluate_all(built.run.path, built.data)
    finally:
        # Even if a metric fails, the training has a report.
        report.write_or_warn([built.run.path])
    log_results(built)


def draw_final_samples(built: Experiment) -> list[FinalSample]:
    """Draw samples of the best checkpoint for a table of the trackers: the same seeds per class.

    Returns:
        The samples; empty for 2-D points, and for translators, whose images may restore real ones.
    """
    if built.family.image_to_image or built.data.spec.content == "points":
        return []
    # a table never fails a training that is finished
    try:
        generator = Run(built.run.path).generator()
        names = generator.class_names[:MAX_SAMPLED_CLASSES]
        count = SAMPLES_PER_CLASS if names else UNCONDITIONAL_SAMPLES
        classes: list[tuple[int | None, str]] = [*enumerate(names)] or [(None, "")]
        return [
            FinalSample(name, seed, draw_grid(generator(1, index, seed), 1))
            for index, name in classes
            for seed in range(count)
        ]
    except Exception as error:
        warnings.warn(f"No table of final samples: {error}", stacklevel=2)
        return []


def log_results(built: Experiment) -> None:
    """Send final samples, nearest neighbors, the report and the best checkpoint to the trackers."""
    folder = built.run.path
    images = built.images
    takers = [tracker for tracker in built.trackers if tracker.takes_samples]
    samples = draw_final_samples(built) if takers else []
    for tracker in takers if samples else []:
        tracker.log_samples(samples, images)
    for tracker in built.trackers:
        # The name of the file and of the logged image is the one of earlier versions.
        if (picture := folder / "neighbours.png").is_file():
            tracker.log_image("neighbours", picture, images)
        if (page := folder / "report.html").is_file():
            tracker.log_report(page, images)
        if (best := folder / "checkpoints" / "best.ckpt").is_file():
            tracker.log_checkpoint(best)
