"""Atomic checkpoints: written to a temporary file, flushed and renamed; also on signals."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Trainer
from torch import distributed

from gan_lab.distributed.detect import is_connection_error
from gan_lab.families.base import Family
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.finite_check import FiniteCheck
from gan_lab.training.callbacks.progress import Progress
from gan_lab.utils.files import atomic_path

# maximum training time between two checkpoints, which a killed run loses
CHECKPOINT_INTERVAL_S = 30.0
# training time of the first checkpoint; the following ones come after twice the time each, up to
# the interval, so that a training that is stopped soon can be sampled
FIRST_CHECKPOINT_S = 2.0
# saves take no larger share of the time, even if this makes the interval longer
MAX_SAVE_SHARE = 0.05
# signals of cluster schedulers and of a closed terminal
PREEMPTION_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
# numbered checkpoints: the newest, and one more in case it is damaged
KEPT_CHECKPOINTS = 2


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically, and loads plain tensors only (no pickled code)."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        serialized = io.BytesIO()
        torch.save(checkpoint, serialized)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as unfinished, unfinished.open("wb") as file:
                file.write(serialized.getbuffer())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = (
                f"Cannot write {path}: {error.strerror}. The previous checkpoint is intact. Free "
                "some space, then repeat the command to resume."
            )
            raise OSError(error.errno, message) from None

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoint(FamilyCallback):
    """Saves ``iteration-<n>.ckpt``; links ``last.ckpt``, ``best.ckpt`` and ``best-<score>.ckpt``.

    Saves at each evaluation, after ``FIRST_CHECKPOINT_S``, twice that, and so on, up to every
    ``CHECKPOINT_INTERVAL_S`` (less often if a save takes long), at the end and on a signal.
    ``best.ckpt`` has the best headline score, ``best-<score>.ckpt`` the best score of a baseline.

    A signal only sets a flag. After the iteration all ranks agree on it, save and stop.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        evaluation: Evaluation,
        finite_check: FiniteCheck,
        at_start: bool = False,
    ) -> None:
        self.folder = folder
        self.progress = progress
        self.evaluation = evaluation
        self.finite_check = finite_check
        # save iteration 0 too, for a rollback
        self.at_start = at_start
        # the signal that stopped the training
        self.signal: int | None = None
        self._started_at = self._saved_at = time.monotonic()
        self._save_s = 0.0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        self.listen(*PREEMPTION_SIGNALS, signal.SIGINT)
        self._started_at = self._saved_at = time.monotonic()
        if self.at_start and self.progress.iteration == 0:
            self.save(trainer, family)

    def listen(self, *numbers: int) -> None:
        """Record these signals from now on instead of exiting."""
        for number in numbers:
            if number not in self._handlers and not _under_nohup(number):
                self._handlers[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        # a second Ctrl-C stops immediately
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.SIGTERM if number in PREEMPTION_SIGNALS else number

    def teardown(self, trainer: Trainer, family: Family, stage: str) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        # Lightning skips teardown after an exception. After a connection error keep the handlers:
        # torchrun is about to send SIGTERM, and this process must report the error first.
        if not is_connection_error(exception):
            self.teardown(trainer, family, "fit")

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        is_stopping = self.signal is not None
        is_due = time.monotonic() - self._saved_at > self._interval_s
        if trainer.world_size > 1:
            flags = torch.tensor([is_stopping, is_due], dtype=torch.uint8, device=family.device)
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
            is_stopping, is_due = (bool(flag) for flag in flags.tolist())
        if is_stopping:
            self.signal = self.signal or signal.SIGTERM
            trainer.should_stop = True
        if is_stopping or is_due or self.evaluation.evaluated or self.progress.spent:
            self.save(trainer, family)

    @property
    def _interval_s(self) -> float:
        """Seconds until the next checkpoint."""
        early_s = max(FIRST_CHECKPOINT_S, self._saved_at - self._started_at)
        return max(min(CHECKPOINT_INTERVAL_S, early_s), self._save_s / MAX_SAVE_SHARE)

    def save(self, trainer: Trainer, family: Family) -> None:
        """Save the current iteration.

        The best checkpoints are linked first, so that a run killed in between repeats the
        iteration.

        Raises:
            DivergedError: A weight is NaN or Inf; nothing is saved.
        """
        started = time.monotonic()
        self.finite_check.check(trainer, family)
        path = self.folder / f"iteration-{self.progress.iteration:08d}.ckpt"
        links = [
            *(["best"] if self.evaluation.improved else []),
            *(f"best-{name}" for name in self.evaluation.own_best),
        ]
        if links:
            aside = self.folder / "new.ckpt"
            trainer.save_checkpoint(aside)
            if trainer.is_global_zero:
                for name in links:
                    _link(aside, self.folder / f"{name}.ckpt")
                os.replace(aside, path)
        else:
            trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            _link(path, self.folder / "last.ckpt")
            for old in sorted(self.folder.glob("iteration-*.ckpt"))[:-KEPT_CHECKPOINTS]:
                old.unlink()
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - started


def _under_nohup(number: int) -> bool:
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


def branch_off(path: Path, branch: int, alerts: list[dict[str, Any]]) -> None:
    """Move a checkpoint to another branch (random seed) of its run, and add alerts to it."""
    checkpoint = read_checkpoint(path)
    checkpoint["branch"] = branch
    checkpoint["callbacks"]["Health"]["alerts"] += alerts
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    _link(path, path.with_name("last.ckpt"))


def _link(path: Path, name: Path) -> None:
    """Replace ``name`` by a hard link to ``path``."""
    aside = name.with_name(f".{name.name}")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except (OSError, AttributeError):
        # Some file systems and operating systems have no hard links.
        shutil.copyfile(path, aside)
    os.replace(aside, name)
