"""Checkpoints that survive anything: written aside, flushed, renamed; and the signals that ask for one."""

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

SECONDS_BETWEEN = 30.0  # of training; also the most that a killed run loses
# what clusters send, and a terminal that hangs up; the end is the same
PREEMPTED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
KEPT = 2  # numbered checkpoints: the newest, and one more in case it is torn


class AtomicCheckpointIO(CheckpointIO):
    """Files that are complete or not there, read as plain tensors only: a pickle with code in it is refused."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        serialised = io.BytesIO()
        torch.save(checkpoint, serialised)
        unfinished = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(serialised.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise OSError(
                error.errno, f"cannot write {path} ({error.strerror}); the checkpoint before it is whole: "
                "make room, then the same command continues"
            ) from None  # fmt: skip

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoint(FamilyCallback):
    """Writes ``iteration-<n>.ckpt`` and links ``last.ckpt`` to it: at each evaluation, at least once in half a minute,
    at the end, and when a signal asks for the end. ``best.ckpt`` is linked to the best evaluation's, and
    ``best-<score>.ckpt`` to that of each yardstick.

    A signal only sets a flag: the iteration ends, all ranks agree, and the training stops with a checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        evaluation: Evaluation,
        finite_check: FiniteCheck,
        at_start: bool = False,
    ) -> None:
        self.folder, self.progress, self.evaluation, self.finite_check = (
            folder,
            progress,
            evaluation,
            finite_check,
        )
        self.at_start = at_start  # one of iteration 0 too, which a run can go back to
        self.signal: int | None = None  # the one that ended the training
        self._saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        self.listen(*PREEMPTED, signal.SIGINT)
        if self.at_start and self.progress.iteration == 0:
            self.save(trainer, family)

    def listen(self, *numbers: int) -> None:
        """From now on these signals are only noted."""
        for number in numbers:
            if number not in self._handlers and not _under_nohup(number):
                self._handlers[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        if self.signal == number == signal.SIGINT:  # the second Ctrl-C
            raise KeyboardInterrupt
        self.signal = signal.SIGTERM if number in PREEMPTED else number

    def teardown(self, trainer: Trainer, family: Family, stage: str) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        if not is_connection_error(
            exception
        ):  # else torchrun is about to end this process, which has something to say first
            self.teardown(trainer, family, "fit")  # which Lightning calls at a good end only

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        ending, due = self.signal is not None, time.monotonic() - self._saved_at > SECONDS_BETWEEN
        if trainer.world_size > 1:
            both = torch.tensor([ending, due], dtype=torch.uint8, device=family.device)
            distributed.all_reduce(both, distributed.ReduceOp.MAX)
            ending, due = (bool(any_of_them) for any_of_them in both.tolist())
        if ending:
            self.signal = self.signal or signal.SIGTERM
            trainer.should_stop = True
        if ending or due or self.evaluation.evaluated or self.progress.spent:
            self.save(trainer, family)

    def save(self, trainer: Trainer, family: Family) -> None:
        """A checkpoint of the iteration just ended. ``best`` is linked first: a run killed in between repeats this.

        Raises DivergedError, and writes none, if a weight is not finite.
        """
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
            for old in sorted(self.folder.glob("iteration-*.ckpt"))[:-KEPT]:
                old.unlink()
        self._saved_at = time.monotonic()


def _under_nohup(number: int) -> bool:
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


def branch_off(path: Path, branch: int, alerts: list[dict[str, Any]]) -> None:
    """Make a checkpoint the beginning of another branch of its run, with findings that it does not know of yet."""
    checkpoint = read_checkpoint(path)
    checkpoint["branch"] = branch
    checkpoint["callbacks"]["Health"]["alerts"] += alerts
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    _link(path, path.with_name("last.ckpt"))


def _link(path: Path, name: Path) -> None:
    """Give a file a second name, replacing what had it; a second copy of the bytes is not needed."""
    aside = name.with_name(f".{name.name}")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except (OSError, AttributeError):  # a file system, or a system, without links
        shutil.copyfile(path, aside)
    os.replace(aside, name)
