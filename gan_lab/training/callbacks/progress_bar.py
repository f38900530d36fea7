"""Progress display: a rich progress bar on a terminal, or periodic lines in a log file."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Trainer
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.text import Text

from gan_lab.distributed.lightning_internals import OpenProgressBar
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.csv_logger import CSVLogger, Row
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.time_left import TimeLeft
from gan_lab.utils import track

LINE_INTERVAL_S = 30.0


class ImagesPerSecond(ProgressColumn):
    """Recent training speed."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


class TimeLeftColumn(ProgressColumn):
    """Time left, with the evaluations and the final scores."""

    # seconds between two renderings
    max_refresh = 1.0

    def __init__(self, time_left: TimeLeft) -> None:
        super().__init__()
        self.time_left = time_left

    def render(self, task: Task) -> Text:
        return Text(str(self.time_left))


class ProgressBar(OpenProgressBar):
    """A bar with images, speed, time left and losses; prints a line for each evaluation.

    A long evaluation shows its own progress in the same line.
    """

    def __init__(
        self,
        counter: Progress,
        csv_logger: CSVLogger,
        evaluation: Evaluation,
        time_left: TimeLeft,
    ) -> None:
        super().__init__(refresh_rate=2, leave=True)
        self.counter, self.csv_logger, self.evaluation = counter, csv_logger, evaluation
        self.time_left = time_left
        self._shown: Row = {}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return [
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
            BarColumn(bar_width=12),
            ImagesPerSecond(),
            TimeLeftColumn(self.time_left),
            TextColumn("{task.description}"),
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
        self.time_left.start()
        # rich can show only one bar at a time
        track.show_in(self.show_stage)

    def on_train_epoch_end(self, *arguments: Any, **named: Any) -> None:
        track.show_in(None)
        super().on_train_epoch_end(*arguments, **named)

    def on_exception(self, *arguments: Any, **named: Any) -> None:
        track.show_in(None)
        super().on_exception(*arguments, **named)

    def show_stage(self, stage: str) -> None:
        """Show what a long step, such as an evaluation, is doing; empty: nothing."""
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description=stage)
            self.progress.refresh()

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
    """Prints images, speed, time left and losses every ``LINE_INTERVAL_S``, and each evaluation."""

    def __init__(
        self,
        counter: Progress,
        csv_logger: CSVLogger,
        evaluation: Evaluation,
        time_left: TimeLeft,
    ) -> None:
        self.counter, self.csv_logger, self.evaluation = counter, csv_logger, evaluation
        self.time_left = time_left
        self._since = (0.0, 0)

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        self.time_left.start()
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
            parts = (
                f"{images:>11,} of {total:,} images",
                f"{speed:,.0f} images/s",
                str(self.time_left),
                losses,
            )
            print("  ".join(part for part in parts if part), flush=True)
            self._since = (now, images)


def format_values(values: Row) -> str:
    """Format names and values in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
