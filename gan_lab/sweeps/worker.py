"""Local sweep worker: claims trials, runs each as its own process, reads its scores, and ends it early or not."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from optuna.trial import TrialState

from gan_lab.sweeps.sweep_file import Sweep, to_words
from gan_lab.sweeps.trials import Claimed, Trials
from gan_lab.utils import process
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_rows

logger = logging.getLogger("gan_lab")

TICK = 0.1  # seconds between two checks of the trials
PATIENCE = 120.0  # seconds that a trial has to write its last checkpoint
TOO_MANY = 3  # trials that fail before any is complete: then the sweep itself is wrong


@dataclass
class Running:
    """A claimed trial and its process, which is None while another process still holds its run folder."""

    claimed: Claimed
    process: subprocess.Popen[bytes] | None = None
    scores: list[float] = field(default_factory=list)
    ending: Literal["", "pruned", "stopped", "lost"] = ""
    deadline: float = math.inf


class Worker:
    """Runs up to ``slots`` trials at a time until the sweep is done. ``folder`` is the sweep's."""

    def __init__(self, sweep: Sweep, trials: Trials, folder: Path, words: Sequence[str]) -> None:
        self.sweep, self.trials, self.folder, self.words = sweep, trials, folder, list(words)
        self.running: list[Running] = []
        self.complete = self.failed = 0
        self._last_heartbeat = -math.inf

    def run(self, slots: int = 1) -> int:
        """Run trials; return 0 if all are done, or 128 + the signal that stopped it.

        Raises UserError if the first trials all fail, or if the storage does not answer.
        """
        with process.Signals().watched() as signals:
            try:
                self._loop(slots, signals)
            finally:
                self._end_all(signals)
        if signals.number:
            logger.info(f"stopped by signal {signals.number}; the same command continues the sweep")
        return 128 + signals.number if signals.number else 0

    def _loop(self, slots: int, signals: process.Signals) -> None:
        waiting_until, has_waited = 0.0, False
        while not signals.number:
            self._poll()
            if len(self.running) < slots and time.monotonic() >= waiting_until:
                claimed = self.trials.claim()
                if claimed:
                    self.running.append(Running(claimed))
                    continue
                if not self.running and not self.trials.count_running():
                    return
                if not self.running and not has_waited:
                    logger.info("the last trials are running at other workers; if one dies, its trial is finished here")
                    has_waited = True
                waiting_until = time.monotonic() + 1.0
            time.sleep(TICK)

    def _end_all(self, signals: process.Signals) -> None:
        for attempt in self.running:
            self._ask_to_end(attempt, "stopped")
        while self.running:
            if signals.times > 1:
                for attempt in self.running:
                    attempt.deadline = 0.0
            try:
                self._poll()
            except ValueError:  # without storage there are no heartbeats either, so others take over
                self._end_without_storage()
                raise
            time.sleep(TICK)

    def _end_without_storage(self) -> None:
        for attempt in self.running:
            if attempt.process:
                while attempt.process.poll() is None and time.monotonic() < attempt.deadline:
                    time.sleep(TICK)
                process.kill_group(attempt.process)
        self.running.clear()

    def _poll(self) -> None:
        heartbeat_due = time.monotonic() - self._last_heartbeat >= self.trials.heartbeat
        for attempt in list(self.running):
            if heartbeat_due and not self.trials.send_heartbeat(attempt.claimed):
                self._ask_to_end(attempt, "lost")
            if attempt.process is None:
                self._start(attempt)
                continue
            code = attempt.process.poll()
            self._read_scores(attempt)
            if code is None:
                if time.monotonic() > attempt.deadline:
                    process.kill_group(attempt.process)
                continue
            process.kill_group(attempt.process)
            self.running.remove(attempt)
            self._conclude(attempt, code)
        if heartbeat_due:
            self._last_heartbeat = time.monotonic()

    def _ask_to_end(self, attempt: Running, why: Literal["pruned", "stopped", "lost"]) -> None:
        attempt.ending, attempt.deadline = attempt.ending or why, min(attempt.deadline, time.monotonic() + PATIENCE)
        if attempt.process and attempt.process.poll() is None:
            attempt.process.terminate()

    def _start(self, attempt: Running) -> None:
        if attempt.ending:
            self.running.remove(attempt)
            if attempt.ending == "stopped":
                self.trials.requeue(attempt.claimed)
            return
        folder, trial_number = self.run_folder(attempt.claimed.trial_number), attempt.claimed.trial_number
        lock = folder.with_name(f".{folder.name}.lock")
        if lock.exists():
            try:
                FileLock(lock).acquire(timeout=0).lock.release()
            except Timeout:
                return
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        placement = [f"run.root={self.folder / 'runs'}", f"run.id={folder.name}", "log.progress_bar=false"]
        words = [word for word in self.words if not word.startswith(("run.root=", "run.id="))]
        command = self.sweep.command_line(attempt.claimed.values, words, placement)
        attempt.process = process.start(command, self.folder / "logs" / f"{folder.name}.txt", self._environment())
        logger.info(f"trial {trial_number}: {' '.join(to_words(attempt.claimed.values))}")

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "RUN_ID"}

    def run_folder(self, trial_number: int) -> Path:
        """Run folder of a trial."""
        return self.folder / "runs" / Path(self.sweep.experiment).stem / f"trial-{trial_number:04d}"

    def _read_scores(self, attempt: Running) -> None:
        scores = read_scores(self.run_folder(attempt.claimed.trial_number) / "metrics.csv", self.sweep.metric)
        for evaluation, value in enumerate(scores[len(attempt.scores) :], len(attempt.scores) + 1):
            attempt.scores.append(value)
            if evaluation > attempt.claimed.reported:
                logger.info(
                    f"trial {attempt.claimed.trial_number}: {self.sweep.metric} {value:.4g} at evaluation {evaluation}"
                )
            if self.trials.report(attempt.claimed, evaluation, value) and not attempt.ending:
                self._ask_to_end(attempt, "pruned")

    def _conclude(self, attempt: Running, code: int) -> None:
        claimed, metric = attempt.claimed, self.sweep.metric
        finite = [score for score in attempt.scores if math.isfinite(score)]
        best = (max(finite) if self.sweep.maximize else min(finite)) if finite else None
        if attempt.ending == "lost":
            return
        if code == 0 and best is not None:
            self.complete += 1
            self.trials.conclude(claimed, TrialState.COMPLETE, best)
            logger.info(f"trial {claimed.trial_number} is complete: best {metric} {best:.4g}")
        elif attempt.ending == "pruned":
            self.trials.conclude(claimed, TrialState.PRUNED, best)
            logger.info(f"trial {claimed.trial_number} was ended early after {len(attempt.scores)} evaluations")
        elif attempt.ending == "stopped":
            self.trials.requeue(claimed)
        elif code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            retried = self.trials.retry(claimed, f"killed by signal {number}")
            logger.info(
                f"trial {claimed.trial_number} was killed by signal {number}"
                + (": it is retried once" if retried else "")
            )
        else:
            self._fail(claimed, code, attempt)

    def _fail(self, claimed: Claimed, code: int, attempt: Running) -> None:
        log = self.folder / "logs" / f"trial-{claimed.trial_number:04d}.txt"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {code}"
        if code == 0:
            problem = (
                f"no finite value of {self.sweep.metric}" if attempt.scores else f"it never logged {self.sweep.metric}"
            )
            reason = f"{problem}: metric.name must be a score of {self.sweep.experiment}"
        self.failed += 1
        self.trials.conclude(claimed, TrialState.FAIL, reason=reason)
        logger.info(f"trial {claimed.trial_number} failed: {reason}")
        if self.failed >= TOO_MANY and not self.complete:
            raise UserError(f"the first {self.failed} trials failed, the last with: {reason} (see {log})")


def read_scores(path: Path, metric: str) -> list[float]:
    """Read the metric at each evaluation so far, in order; a last line that is incomplete is left for later."""
    return [float(row[metric]) for row in read_rows(path) if row.get(metric)]
