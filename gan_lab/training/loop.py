"""Train an experiment: resume, fit, roll back where it diverged, conclude with scores and the page of the run."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only

from gan_lab import device, report
from gan_lab.config.loading import LoadedConfig
from gan_lab.config.schema import with_values
from gan_lab.distributed import detect
from gan_lab.distributed.lightning_internals import set_rank
from gan_lab.runs.checkpoints import explain_mismatch, latest_checkpoint, read_checkpoint
from gan_lab.runs.folder import RunFolder
from gan_lab.runs.results import write_summary
from gan_lab.training import warm_start
from gan_lab.training.builder import Experiment, build, rank
from gan_lab.training.callbacks.checkpoint import PREEMPTED, branch_off
from gan_lab.training.callbacks.finite_check import DivergedError
from gan_lab.training.callbacks.health import Alert
from gan_lab.training.final_evaluation import evaluate_all
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

ROLLBACKS = 3  # of one run
logger = logging.getLogger("gan_lab")


@rank_zero_only
def announce(text: str) -> None:
    """Log a line, in the first of all processes alone."""
    logger.info(text)


def train(loaded: LoadedConfig, overrides: Sequence[str]) -> int:
    """Train, or go on training, and score. Returns the exit code: 0, or 128 + the signal that ended the training.

    Raises UserError or OSError for what the user can mend; a training that diverged is such a thing.
    """
    run, launched = RunFolder.of(loaded), detect.detect_launcher(loaded.config.run)
    set_rank(launched.rank)
    overwrite = loaded.config.run.overwrite and not launched.is_restart
    config = with_values(loaded.config, {"run.overwrite": overwrite})
    finished = None if overwrite else run.finished(config)
    if finished:
        if rank() == 0 and not (run.path / "report.html").is_file():  # killed before it was drawn
            report.write_or_warn([run.path])
        announce(f"{run.path} is already finished ({finished['images']:,} images). Train longer: run.images=...; second run: "
                 "run.id=...; start over: run.overwrite=true")  # fmt: skip
        return 0
    if run.has_config and config.data.source == "auto" and not overwrite:
        config = with_values(config, {"data.source": run.config().data.source})
    built = build(config, run, launched=launched)  # before anything is written or deleted
    announce(built.data.decoded.about)
    for note in built.notes:
        announce(note)
    first = overwrite or latest_checkpoint(run.path) is None
    taken = warm_start.begin(built.family, config) if first else None
    if taken:
        announce(str(taken))
    with run.locked() if rank() == 0 else nullcontext():
        if rank() == 0:
            about = built.data.decoded
            run.prepare(built.config, ["train", loaded.experiment, *overrides], about.fingerprint, about.about)
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
        announce(f"continues {built.run.path} after iteration {checkpoint['iteration']:,}")
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
        announce(f"stopped by signal {caught} with a checkpoint; the same command continues {built.run.path}")
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
            built.trainer.fit(built.family, datamodule=built.data, ckpt_path=path, weights_only=True)
            return built, None
        except DivergedError as diverged:
            if built.config.health.on_nan == "stop" or built.family.branch >= ROLLBACKS:
                return built, diverged
            built, path = roll_back(built, diverged)
        except Exception as error:
            if detect.is_connection_error(error):
                raise detect.explain_lost_ranks(
                    detect.detect_launcher(built.config.run), error, built.config.run.timeout_s
                ) from None
            raise
        except SystemExit as ended:  # what Lightning makes of a Ctrl-C that comes before the first iteration
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def roll_back(built: Experiment, diverged: DivergedError) -> tuple[Experiment, Path]:
    """Rebuild a run at its last good checkpoint, in its next branch; one that is killed from now on continues there too."""
    path, branch = latest_checkpoint(built.run.path), built.family.branch + 1
    assert path is not None  # on_nan=rollback writes one before the first iteration
    if rank() == 0:
        iteration = read_checkpoint(path)["iteration"]
        sentence = f"back to iteration {iteration:,}, and on with other random numbers ({branch} of {ROLLBACKS} times)"
        built.health.report(Alert("rollback", diverged.iteration, diverged.images, sentence), is_global_zero=True)
        branch_off(path, branch, [asdict(alert) for alert in built.health.alerts[-2:]])
    detect.barrier_if_distributed()
    return build(built.config, built.run, trackers=built.trackers), path


def explain_divergence(built: Experiment, diverged: DivergedError) -> str:
    """One line for a user whose training diverged: where the last good checkpoint is, and what to try."""
    path, branch = latest_checkpoint(built.run.path), built.family.branch
    last = f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"
    tried = f" after {branch} rollbacks" if branch else ""
    again = "" if branch else ", or health.on_nan=rollback, which goes on from there with other random numbers"
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
        "data": built.data.decoded.about,
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
        evaluate_all(built.run.path)
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
