"""Train an experiment: resume, fit, roll back where it diverged, conclude with scores and the page of the run."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from gan_lab import device, report
from gan_lab.config.loading import LoadedConfig
from gan_lab.config.schema import Config, with_values
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import detect
from gan_lab.distributed.lightning_internals import set_rank
from gan_lab.runs.alert import Alert
from gan_lab.runs.checkpoints import explain_mismatch, latest_checkpoint, read_checkpoint
from gan_lab.runs.folder import RunFolder
from gan_lab.runs.results import write_summary
from gan_lab.runs.run import Run
from gan_lab.training import warm_start
from gan_lab.training.builder import Experiment, build, load_data, quiet_lightning, rank
from gan_lab.training.callbacks.checkpoint import PREEMPTED, branch_off
from gan_lab.training.callbacks.finite_check import DivergedError
from gan_lab.training.final_evaluation import evaluate_all
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

MAX_ROLLBACKS = 3  # per run
logger = logging.getLogger("gan_lab")


@rank_zero_only
def announce(text: str) -> None:
    """Log a line, in the first of all processes alone."""
    logger.info(text)


def train(
    loaded: LoadedConfig, overrides: Sequence[str], dataset: Any = None, test: Any = None
) -> int:
    """Train, or resume, and score. Returns the exit code: 0, or 128 + the signal that ended the training.

    Args:
        loaded: The experiment.
        overrides: The command line that it was loaded with, for ``command.txt``.
        dataset: A data set from Python, in place of the configured one.
        test: Held-out images of it, in place of 10 %.

    Raises:
        UserError: The user can fix it: values that do not fit, or a training that diverged.
        OSError: A file cannot be read or written.
    """
    run, launched = RunFolder.of(loaded), detect.detect_launcher(loaded.config.run)
    set_rank(launched.rank)
    config = for_this_start(loaded.config, run, launched)
    finished = None if config.run.overwrite else run.finished(config)
    if finished:
        if rank() == 0 and not (run.path / "report.html").is_file():  # killed before it was drawn
            report.write_or_warn([run.path])
        announce(
            f"{run.path} is already finished ({finished.images:,} images). Train longer: run.images=...; second run: "
            "run.id=...; start over: run.overwrite=true"
        )
        return 0
    with quiet_lightning():
        return train_run(
            *load_data(config, dataset, test),
            run,
            launched,
            ["train", loaded.experiment, *overrides],
        )


def for_this_start(config: Config, run: RunFolder, launched: detect.Launch) -> Config:
    """The config of this start: a restart by the launcher overwrites nothing, a resumed run keeps its source of data."""
    overwrite = config.run.overwrite and not launched.is_restart
    resumes = run.has_config and not overwrite
    source = (
        Run(run.path).config.data.source
        if resumes and config.data.source == "auto"
        else config.data.source
    )
    return with_values(config, {"run.overwrite": overwrite, "data.source": source})


def train_run(
    config: Config,
    data: GANDataModule,
    run: RunFolder,
    launched: detect.Launch,
    command: Sequence[str],
) -> int:
    """Train a run whose config is complete and whose data are read; the exit code, as ``train`` returns it."""
    built = build(config, data, run, launched=launched)  # before anything is written or deleted
    announce(data.facts.about)
    for note in built.notes:
        announce(note)
    overwrite = config.run.overwrite
    first = overwrite or latest_checkpoint(run.path) is None
    taken = warm_start.begin(built.family, config) if first else None
    if taken:
        announce(str(taken))
    with run.locked() if rank() == 0 else nullcontext():
        if rank() == 0:
            run.prepare(config, command, data.facts.fingerprint, data.facts.about)
            if taken:
                write_text(run.path / "start_from.txt", f"{taken}\n")
        code = fit_and_conclude(built, None if overwrite else resume(built))
    if code > 128:
        detect.barrier_if_distributed()  # torchrun and srun end the first process for another rank's code
    return code if rank() == 0 or code > 128 else 0


def resume(built: Experiment) -> Path | None:
    """Load the latest checkpoint of the run, if there is one. Raises UserError, in one line, if it does not fit."""
    path = latest_checkpoint(built.run.path)
    if path:
        checkpoint = read_checkpoint(path)
        with explain_mismatch(path):
            built.family.load_state_dict(checkpoint["state_dict"])
            built.family.iteration = checkpoint["iteration"]
            for tracker in built.trackers:
                tracker.id = checkpoint["callbacks"]["CSVLogger"]["wandb_id"]
        announce(f"Resuming {built.run.path} from iteration {checkpoint['iteration']:,}")
    return path


def fit_and_conclude(built: Experiment, path: Path | None) -> int:
    """Train to the end and score; the exit code. Raises UserError if the training diverged for good."""
    for tracker in built.trackers:
        tracker.start(built.images)
    started = time.time()
    built, diverged = fit(built, path)
    caught = built.checkpoint.signal
    code = 128 + caught if caught else 2 if diverged else 0
    if rank() != 0:
        return code
    if code == 0:
        conclude(built, time.time() - started)
    elif not diverged:
        announce(
            f"stopped by signal {caught} with a checkpoint; the same command continues {built.run.path}"
        )
    for tracker in built.trackers:
        if caught == signal.SIGTERM:
            tracker.mark_preempted()
        tracker.finish(code)
    if diverged:
        report.write_or_warn([built.run.path])
        raise UserError(explain_divergence(built, diverged))
    return code


def fit(built: Experiment, path: Path | None) -> tuple[Experiment, DivergedError | None]:
    """Train from a checkpoint, or from the start: the experiment that ended, and the divergence that broke it off."""
    while True:
        built.checkpoint.listen(*PREEMPTED)
        try:
            built.trainer.fit(
                built.family, datamodule=built.data, ckpt_path=path, weights_only=True
            )
            return built, None
        except DivergedError as diverged:
            if built.config.health.on_nan == "stop" or built.family.branch >= MAX_ROLLBACKS:
                return built, diverged
            built, path = roll_back(built, diverged)
        except Exception as error:
            if detect.is_connection_error(error):
                raise detect.explain_lost_ranks(
                    detect.detect_launcher(built.config.run), error, built.config.run.timeout_s
                ) from None
            raise
        except (
            SystemExit
        ) as ended:  # what Lightning makes of a Ctrl-C that comes before the first iteration
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def roll_back(built: Experiment, diverged: DivergedError) -> tuple[Experiment, Path]:
    """Rebuild a run at its last good checkpoint, in its next branch; one that is killed from now on continues there too."""
    path, branch = latest_checkpoint(built.run.path), built.family.branch + 1
    assert path is not None  # on_nan=rollback writes one before the first iteration
    if rank() == 0:
        iteration = read_checkpoint(path)["iteration"]
        sentence = f"Rolled back to iteration {iteration:,} with a new random seed (rollback {branch} of {MAX_ROLLBACKS})"
        built.health.report(
            Alert("rollback", diverged.iteration, diverged.images, sentence), is_global_zero=True
        )
        branch_off(path, branch, [asdict(alert) for alert in built.health.alerts[-2:]])
    detect.barrier_if_distributed()
    return build(built.config, built.data, built.run, trackers=built.trackers), path


def explain_divergence(built: Experiment, diverged: DivergedError) -> str:
    """One line for a user whose training diverged: where the last good checkpoint is, and what to try."""
    path, branch = latest_checkpoint(built.run.path), built.family.branch
    last = f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"
    tried = f" after {branch} rollbacks" if branch else ""
    again = (
        ""
        if branch
        else ", or health.on_nan=rollback, which resumes from there with another random seed"
    )
    return f"{diverged}{tried}; {last}. Try lower learning rates, a gradient penalty or run.precision=32-true{again}"


def conclude(built: Experiment, seconds: float) -> None:
    """Score the generator by all metrics at hand; write summary.json and the page of the run."""
    iteration, evaluator = built.family.iteration, built.evaluation.evaluator
    summary = {
        "experiment": built.name,
        "run_id": built.run.id,
        "iteration": iteration,
        "images": built.images,
        "headline": built.evaluation.headline,
        "data": built.data.facts.about,
        "validation": built.evaluation.scores,
        "validation_split": evaluator.setting.split,
        "validation_floors": evaluator.floors(built.family.device),
        "best_iteration": built.evaluation.best_at,
        "seconds_of_last_start": round(seconds, 1),
        "peak_memory_mb": round(device.peak_memory()),
        "health": [asdict(alert) for alert in built.health.alerts],
    }
    write_summary(built.run.path, summary)
    try:
        evaluate_all(built.run.path, built.data)
    finally:  # a page of what there is
        report.write_or_warn([built.run.path])
    show(built)


def show(built: Experiment) -> None:
    """Hand what a run has ended with to its trackers."""
    folder, images = built.run.path, built.images
    for tracker in built.trackers:
        if (picture := folder / "neighbours.png").is_file():
            tracker.log_image("neighbours", picture, images)
        if (page := folder / "report.html").is_file():
            tracker.log_report(page, images)
        if (best := folder / "checkpoints" / "best.ckpt").is_file():
            tracker.log_checkpoint(best)
