"""The local engine: a worker takes trials, runs each as a process of its own, reads its scores, ends it early or not."""

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

from gan_lab.sweeps import process
from gan_lab.sweeps.sweep_file import Sweep, words_of
from gan_lab.sweeps.trials import Claimed, Trials
from gan_lab.utils.files import read_rows

logger = logging.getLogger("gan_lab")

TICK = 0.1  # seconds between two looks at the trials
PATIENCE = 120.0  # seconds that a trial has for its last checkpoint
TOO_MANY = 3  # trials that fail before any is complete: it is the sweep that is wrong


@dataclass
class Running:
    """A trial and its process, which is None as long as its run folder is held by a trial that is still ending."""

    claimed: Claimed
    process: subprocess.Popen[bytes] | None = None
    scores: list[float] = field(default_factory=list)
    ending: Literal["", "pruned", "stopped", "lost"] = ""
    deadline: float = math.inf


class Worker:
    """Runs up to ``slots`` trials at a time until the sweep has all. ``folder`` is the sweep's."""

    def __init__(self, sweep: Sweep, trials: Trials, folder: Path, words: Sequence[str]) -> None:
        self.sweep, self.trials, self.folder, self.words = sweep, trials, folder, list(words)
        self.running: list[Running] = []
        self.complete = self.failed = 0
        self._beaten = -math.inf

    def run(self, slots: int = 1) -> int:
        """The exit code: 0 if all trials are done, 128 + the signal that ended it before.

        Raises ValueError if the first trials all fail, or the storage does not answer.
        """
        with process.Signals().watched() as signals:
            try:
                self._loop(slots, signals)
            finally:
                self._end(signals)
        if signals.number:
            logger.info(f"stopped by signal {signals.number}; the same command continues the sweep")
        return 128 + signals.number if signals.number else 0

    def _loop(self, slots: int, signals: process.Signals) -> None:
        waiting_until, has_waited = 0.0, False
        while not signals.number:
            self._attend()
            if len(self.running) < slots and time.monotonic() >= waiting_until:
                claimed = self.trials.claim()
                if claimed:
                    self.running.append(Running(claimed))
                    continue
                if not self.running and not self.trials.running():
                    return
                if not self.running and not has_waited:
                    logger.info("the last trials are running at other workers; if one dies, its trial is finished here")
                    has_waited = True
                waiting_until = time.monotonic() + 1.0
            time.sleep(TICK)

    def _end(self, signals: process.Signals) -> None:
        for one in self.running:
            self._ask_to_end(one, "stopped")
        while self.running:
            if signals.times > 1:
                for one in self.running:
                    one.deadline = 0.0
            try:
                self._attend()
            except ValueError:  # the storage is gone: the heartbeats end too, and others take over
                self._end_without_storage()
                raise
            time.sleep(TICK)

    def _end_without_storage(self) -> None:
        for one in self.running:
            if one.process:
                while one.process.poll() is None and time.monotonic() < one.deadline:
                    time.sleep(TICK)
                process.kill_group(one.process)
        self.running.clear()

    def _attend(self) -> None:
        beat = time.monotonic() - self._beaten >= self.trials.heartbeat
        for one in list(self.running):
            if beat and not self.trials.beat(one.claimed):
                self._ask_to_end(one, "lost")
            if one.process is None:
                self._start(one)
                continue
            code = one.process.poll()
            self._read(one)
            if code is None:
                if time.monotonic() > one.deadline:
                    process.kill_group(one.process)
                continue
            process.kill_group(one.process)
            self.running.remove(one)
            self._conclude(one, code)
        if beat:
            self._beaten = time.monotonic()

    def _ask_to_end(self, one: Running, why: Literal["pruned", "stopped", "lost"]) -> None:
        one.ending, one.deadline = one.ending or why, min(one.deadline, time.monotonic() + PATIENCE)
        if one.process and one.process.poll() is None:
            one.process.terminate()

    def _start(self, one: Running) -> None:
        if one.ending:
            self.running.remove(one)
            if one.ending == "stopped":
                self.trials.requeue(one.claimed)
            return
        folder, trial_number = self.run_folder(one.claimed.trial_number), one.claimed.trial_number
        lock = folder.with_name(f".{folder.name}.lock")
        if lock.exists():
            try:
                FileLock(lock).acquire(timeout=0).lock.release()
            except Timeout:
                return
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        own = [f"run.root={self.folder / 'runs'}", f"run.id={folder.name}", "log.bar=false"]
        words = [word for word in self.words if not word.startswith(("run.root=", "run.id="))]
        command = self.sweep.command_line(one.claimed.values, words, own)
        one.process = process.start(command, self.folder / "logs" / f"{folder.name}.txt", self._environment())
        logger.info(f"trial {trial_number}: {' '.join(words_of(one.claimed.values))}")

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "RUN_ID"}

    def run_folder(self, trial_number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / "runs" / Path(self.sweep.experiment).stem / f"trial-{trial_number:04d}"

    def _read(self, one: Running) -> None:
        scores = read_scores(self.run_folder(one.claimed.trial_number) / "metrics.csv", self.sweep.metric)
        for evaluation, value in enumerate(scores[len(one.scores) :], len(one.scores) + 1):
            one.scores.append(value)
            if evaluation > one.claimed.reported:
                logger.info(
                    f"trial {one.claimed.trial_number}: {self.sweep.metric} {value:.4g} at evaluation {evaluation}"
                )
            if self.trials.report(one.claimed, evaluation, value) and not one.ending:
                self._ask_to_end(one, "pruned")

    def _conclude(self, one: Running, code: int) -> None:
        claimed, metric = one.claimed, self.sweep.metric
        finite = [score for score in one.scores if math.isfinite(score)]
        best = (max(finite) if self.sweep.maximize else min(finite)) if finite else None
        if one.ending == "lost":
            return
        if code == 0 and best is not None:
            self.complete += 1
            self.trials.conclude(claimed, TrialState.COMPLETE, best)
            logger.info(f"trial {claimed.trial_number} is complete: best {metric} {best:.4g}")
        elif one.ending == "pruned":
            self.trials.conclude(claimed, TrialState.PRUNED, best)
            logger.info(f"trial {claimed.trial_number} was ended early after {len(one.scores)} evaluations")
        elif one.ending == "stopped":
            self.trials.requeue(claimed)
        elif code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            again = self.trials.retry(claimed, f"killed by signal {number}")
            logger.info(
                f"trial {claimed.trial_number} was killed by signal {number}"
                + (": it is tried once more" if again else "")
            )
        else:
            self._fail(claimed, code, one)

    def _fail(self, claimed: Claimed, code: int, one: Running) -> None:
        log = self.folder / "logs" / f"trial-{claimed.trial_number:04d}.txt"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {code}"
        if code == 0:
            what = f"no finite value of {self.sweep.metric}" if one.scores else f"it never logged {self.sweep.metric}"
            reason = f"{what}: metric.name must be a score of {self.sweep.experiment}"
        self.failed += 1
        self.trials.conclude(claimed, TrialState.FAIL, reason=reason)
        logger.info(f"trial {claimed.trial_number} failed: {reason}")
        if self.failed >= TOO_MANY and not self.complete:
            raise ValueError(f"the first {self.failed} trials failed, the last with: {reason} (see {log})")


def read_scores(path: Path, metric: str) -> list[float]:
    """The metric at each evaluation so far, in order; a last line that is being written is left for later."""

    return [float(row[metric]) for row in read_rows(path) if row.get(metric)]
