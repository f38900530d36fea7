"""Lightning's rich bar, counting images."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gan_lab.callbacks.budget import Budget
from gan_lab.callbacks.quality import Quality
from gan_lab.callbacks.record import Record, Row
from gan_lab.families.base import Family


class ImagesPerSecond(ProgressColumn):
    """Speed of the last seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


class Bar(RichProgressBar):
    """Images seen of the budget, images/s, time left, and the latest losses; a line for each evaluation."""

    def __init__(self, budget: Budget, record: Record, quality: Quality) -> None:
        super().__init__(refresh_rate=2, leave=True)
        self.budget, self.record, self.quality = budget, record, quality
        self._shown: Row = {}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return [
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
            BarColumn(bar_width=12),
            ImagesPerSecond(),
            TimeRemainingColumn(),
            TextColumn("left"),
        ]

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in self.record.latest.items() if name.startswith("loss")}

    def on_train_epoch_start(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        if self.progress is not None:
            total = self.budget.iterations * self.budget.batch_size
            self.train_progress_bar_id = self.progress.add_task("", total=total, completed=self.budget.images)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:  # type: ignore[override]
        self._update(self.train_progress_bar_id, self.budget.images)
        if self.record.latest is not self._shown:  # drawing them at every iteration costs more than it tells
            self._shown = self.record.latest
            self._update_metrics(trainer, family)
        if self.quality.evaluated and self.quality.scores and self.progress is not None:
            scores = "  ".join(f"{name} {value:.4g}" for name, value in self.quality.scores.items())
            self.progress.console.print(f"{self.budget.images:>11,} images  {scores}")
