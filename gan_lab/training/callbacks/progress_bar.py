"""Progress display: a rich progress bar on a terminal, or periodic lines in a log file."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Trainer
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gan_lab.distributed.lightning_internals import OpenProgressBar
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.csv_logger import CSVLogger, Row
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress

LINE_INTERVAL_S = 30.0


class ImagesPerSecond(ProgressColumn):
    """Recent training speed."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


class ProgressBar(OpenProgressBar):
    """A bar with images, speed, time left and losses; prints a line for each evaluation."""

    def __init__(self, counter: Progress, csv_logger: CSVLogger, evaluation: Evaluation) -> None:
        super().__init__(refresh_rate=2, leave=True)
        self.counter, self.csv_logger, self.evaluation = counter, csv_logger, evaluation
        self._shown: Row = {}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return [
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
            BarColumn(bar_width=12),
            ImagesPerSecond(),
            TimeRemainingColumn(),
            TextColumn("left"),
        ]

    def get_metrics(
        self, trainer: Trainer, pl_module: Any
    ) -> dict[str, int | str | float | dict[str, float]]:
        return {
            name: value for name, value in self.csv_logger.latest.items() if name.startswith("loss")
        }

    def on_train_epoch_start(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        if self.progress is not None:
            total = self.counter.iterations * self.counter.batch_size
            self.train_progress_bar_id = self.progress.add_task(
                "", total=total, completed=self.counter.images
            )

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:  # type: ignore[override]
        self.move_to(self.counter.images)
        # redraw the losses only when they change: drawing them slows down fast iterations
        if self.csv_logger.latest is not self._shown:
            self._shown = self.csv_logger.latest
            self.show_metrics(trainer, family)
        if self.evaluation.evaluated and self.evaluation.scores and self.progress is not None:
            self.progress.console.print(
                f"{self.counter.images:>11,} images  {format_values(self.evaluation.scores)}"
            )


class ProgressLines(FamilyCallback):
    """Prints images, speed and losses every ``LINE_INTERVAL_S``, and each evaluation."""

    def __init__(self, counter: Progress, csv_logger: CSVLogger, evaluation: Evaluation) -> None:
        self.counter, self.csv_logger, self.evaluation = counter, csv_logger, evaluation
        self._since = (0.0, 0)

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        self._since = (time.monotonic(), self.counter.images)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        now, images = time.monotonic(), self.counter.images
        if not trainer.is_global_zero:
            return
        if self.evaluation.evaluated and self.evaluation.scores:
            print(f"{images:>11,} images  {format_values(self.evaluation.scores)}", flush=True)
        if now - self._since[0] >= LINE_INTERVAL_S:
            speed = (images - self._since[1]) / (now - self._since[0])
            latest = self.csv_logger.latest
            losses = format_values(
                {name: latest[name] for name in latest if name.startswith("loss")}
            )
            total = self.counter.iterations * self.counter.batch_size
            print(f"{images:>11,} of {total:,} images  {speed:,.0f} images/s  {losses}", flush=True)
            self._since = (now, images)


def format_values(values: Row) -> str:
    """Format names and values in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
