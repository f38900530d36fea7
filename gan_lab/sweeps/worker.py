"""Local sweep worker: runs each trial as a process, stores its scores, may end it early."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from optuna.trial import TrialState

from gan_lab.config.values import format_overrides
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.sweeps.trials import ClaimedTrial, Trials, name_trial
from gan_lab.utils import process
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_rows
from gan_lab.utils.numbers import format_count

logger = logging.getLogger("gan_lab")

POLL_INTERVAL_S = 0.1
# Interval of claims while other workers run the last trials.
CLAIM_INTERVAL_S = 1.0
# A stopped trial has this long to write its last checkpoint.
SHUTDOWN_TIMEOUT_S = 120.0
# If this many trials fail before any is complete, the sweep itself is wrong.
MAX_FAILURES_BEFORE_SUCCESS = 3

Ending = Literal["pruned", "stopped", "lost"]


class Worker:
    """Runs trials until the sweep is done, up to ``slots`` at a time, each slot in its own thread.

    Args:
        sweep: The sweep.
        trials: Its trials, which other workers may share.
        folder: The folder of the sweep, which gets the runs and the output of the trials.
        overrides: Overrides of all trials.
    """

    def __init__(
        self, sweep: Sweep, trials: Trials, folder: Path, overrides: Sequence[str]
    ) -> None:
        self.sweep = sweep
        self.trials = trials
        self.folder = folder
        self.overrides = list(overrides)
        self._slots = 1
        self._signals = process.Signals()
        self._aborted = threading.Event()
        self._has_announced_wait = False
        self._has_completed = False
        self._failures: list[str] = []

    def run(self, slots: int = 1) -> int:
        """Run trials; return 0 if all are done, or 128 + the signal that stopped the worker.

        Raises:
            UserError: The first trials all fail, or the storage does not respond.
        """
        self._slots = slots
        with self._signals.watched():
            # Leaving the pool waits for all slots.
            with ThreadPoolExecutor(slots) as pool:
                futures = [pool.submit(self._run_slot) for _ in range(slots)]
            for future in futures:
                future.result()
        if self._signals.number:
            logger.info(
                f"Stopped by signal {self._signals.number}. The same command resumes the sweep"
            )
            return 128 + self._signals.number
        return 0

    def _run_slot(self) -> None:
        """Run one trial after the other."""
        try:
            while not self._is_stopping():
                claimed = self.trials.claim()
                if claimed:
                    self._run_trial(claimed)
                elif self.trials.count_running():
                    if not self._has_announced_wait:
                        self._has_announced_wait = True
                        logger.info(
                            "Waiting for the last trials. "
                            "If their worker dies, this one finishes them"
                        )
                    self._aborted.wait(CLAIM_INTERVAL_S)
                else:
                    return
        except BaseException:
            self._aborted.set()
            raise

    def _is_stopping(self) -> bool:
        return bool(self._signals.number) or self._aborted.is_set()

    def _run_trial(self, claimed: ClaimedTrial) -> None:
        if not self._wait_for_run_folder(claimed):
            return
        child = self._start_training(claimed)
        scores: list[float] = []
        ending: Ending | None = None
        deadline = math.inf
        try:
            while child.poll() is None:
                has_trial = self.trials.send_heartbeat(claimed)
                should_prune = self._report_scores(claimed, scores)
                if ending is None and (self._is_stopping() or should_prune or not has_trial):
                    ending = "stopped" if self._is_stopping() else "pruned" if has_trial else "lost"
                    deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
                    child.terminate()
                if time.monotonic() > deadline or self._signals.times > 1:
                    process.kill_group(child)
                time.sleep(POLL_INTERVAL_S)
            self._report_scores(claimed, scores)
        except BaseException:
            # If the storage fails, there are no heartbeats, so another worker takes over the trial.
            _end_training(child)
            raise
        finally:
            # Its data loaders may outlive it.
            process.kill_group(child)
        self._finish_trial(claimed, ending, child.poll() or 0, scores)

    def _wait_for_run_folder(self, claimed: ClaimedTrial) -> bool:
        """Wait until the training of a dead worker has released the run folder.

        Returns:
            False if the trial cannot start.
        """
        folder = self.run_folder(claimed.number)
        lock = folder.with_name(f".{folder.name}.lock")
        while lock.exists():
            try:
                with FileLock(lock, timeout=0):
                    break
            except Timeout:
                if not self.trials.send_heartbeat(claimed):
                    return False
                if self._is_stopping():
                    self.trials.requeue(claimed)
                    return False
                time.sleep(POLL_INTERVAL_S)
        return True

    def _start_training(self, claimed: ClaimedTrial) -> subprocess.Popen[bytes]:
        log = self._log_file(claimed.number)
        log.parent.mkdir(parents=True, exist_ok=True)
        run_id = self.run_folder(claimed.number).name
        placement = [
            f"run.root={self.folder / 'runs'}",
            f"run.id={run_id}",
            "log.progress_bar=false",
        ]
        overrides = [
            text for text in self.overrides if not text.startswith(("run.root=", "run.id="))
        ]
        command = self.sweep.trial_command(claimed.values, overrides, placement)
        environment = {name: value for name, value in os.environ.items() if name != "RUN_ID"}
        environment |= process.share_cores(self._slots)
        child = process.start(command, log, environment)
        logger.info(f"Started trial {claimed.number}: {' '.join(format_overrides(claimed.values))}")
        return child

    def run_folder(self, trial_number: int) -> Path:
        """Return the run folder of a trial."""
        return self.folder / "runs" / Path(self.sweep.experiment).stem / name_trial(trial_number)

    def _log_file(self, trial_number: int) -> Path:
        return self.folder / "logs" / f"{name_trial(trial_number)}.txt"

    def _report_scores(self, claimed: ClaimedTrial, scores: list[float]) -> bool:
        """Append the trial's new scores to ``scores`` and report them.

        Returns:
            True if the trial should end now.
        """
        should_prune = False
        found = read_scores(self.run_folder(claimed.number) / "metrics.csv", self.sweep.metric)
        for evaluation, value in enumerate(found[len(scores) :], len(scores) + 1):
            scores.append(value)
            if evaluation > claimed.reported:
                logger.info(
                    f"Trial {claimed.number}: {self.sweep.metric} {value:.4g} "
                    f"at evaluation {evaluation}"
                )
            should_prune |= self.trials.report(claimed, evaluation, value)
        return should_prune

    def _finish_trial(
        self, claimed: ClaimedTrial, ending: Ending | None, code: int, scores: Sequence[float]
    ) -> None:
        number, metric = claimed.number, self.sweep.metric
        finite = [score for score in scores if math.isfinite(score)]
        best = (max(finite) if self.sweep.maximize else min(finite)) if finite else None
        if ending == "lost":
            return
        if code == 0 and best is not None:
            self._has_completed = True
            self.trials.finish(claimed, TrialState.COMPLETE, best)
            logger.info(f"Trial {number} is complete: best {metric} {best:.4g}")
        elif ending == "pruned":
            self.trials.finish(claimed, TrialState.PRUNED, best)
            count = format_count(len(scores), "evaluation")
            logger.info(f"Trial {number} was ended early after {count}")
        elif ending == "stopped":
            self.trials.requeue(claimed)
        elif code < 0 or code > 128:
            cause = f"killed by signal {-code if code < 0 else code - 128}"
            is_retried = self.trials.finish_killed(claimed, cause)
            logger.info(f"Trial {number} was {cause}{'. Retrying it once' if is_retried else ''}")
        else:
            self._finish_failed(claimed, code, scores)

    def _finish_failed(self, claimed: ClaimedTrial, code: int, scores: Sequence[float]) -> None:
        log = self._log_file(claimed.number)
        if code == 0:
            problem = "no finite value of" if scores else "never logged"
            reason = (
                f"{problem} {self.sweep.metric}. "
                f"metric.name must be a score of {self.sweep.experiment}"
            )
        else:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            reason = next(
                (line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}"
            )
        self._failures.append(reason)
        self.trials.finish(claimed, TrialState.FAIL, reason=reason)
        logger.info(f"Trial {claimed.number} failed: {reason}")
        if len(self._failures) >= MAX_FAILURES_BEFORE_SUCCESS and not self._has_completed:
            raise UserError(f"the first {len(self._failures)} trials failed: {reason}. See {log}")


def _end_training(child: subprocess.Popen[bytes]) -> None:
    """Ask a training to end, and wait until it has written its checkpoint."""
    if child.poll() is None:
        child.terminate()
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)


def read_scores(path: Path, metric: str) -> list[float]:
    """Read the metric at each evaluation so far, in order, without an incomplete last line."""
    return [float(row[metric]) for row in read_rows(path) if row.get(metric)]
