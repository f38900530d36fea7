"""What is written down: metrics.csv (no wall-clock, so that two equal runs have equal files), timing.csv, the tracker."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, distributed

from gan_lab import runs
from gan_lab.callbacks.budget import Budget
from gan_lab.callbacks.quality import Quality
from gan_lab.callbacks.tracker import Tracker
from gan_lab.families.base import Family

Row = dict[str, float]


class Table:
    """A CSV file of rows under one header, complete after every row; a column that comes later is added to the header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def rewind(self, iteration: int) -> None:
        """Forget the rows after an iteration, and a last line that was cut off in the middle."""
        rows = [row for row in runs.rows(self.path) if int(row["iteration"]) <= iteration]
        self.columns = [name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)]
        self._rewrite([{name: row[name] for name in self.columns} for row in rows])

    def append(self, row: Row) -> None:
        new = [name for name in row if name not in self.columns]
        if new:
            before = runs.rows(self.path)
            self.columns += new
            self._rewrite(before)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(text_of([{name: repr(value) for name, value in row.items()}], self.columns))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        header = ",".join(self.columns) + "\n" if self.columns else ""
        runs.write(self.path, header + text_of(rows, self.columns))


def text_of(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Rows as the lines of a CSV file, without the header."""
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


class Record(Callback):
    """A row of the means since the last row every so many images, and at each evaluation with the scores in it."""

    def __init__(self, folder: Path, every: int, budget: Budget, quality: Quality, tracker: Tracker | None) -> None:
        self.every, self.budget, self.quality, self.tracker = every, budget, quality, tracker
        self.metrics, self.timing = Table(folder / "metrics.csv"), Table(folder / "timing.csv")
        self.latest: Row = {}  # the last means, for the progress bar
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = (0.0, 0)

    def on_train_start(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        if trainer.is_global_zero:
            self.metrics.rewind(self.budget.iteration)
            self.timing.rewind(self.budget.iteration)
        self._sums = {name: total.to(family.device) for name, total in self._sums.items()}
        self._since = (time.perf_counter(), self.budget.images)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:  # type: ignore[override]
        for name, value in family.recorded.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.double()
            self._counts[name] = self._counts.get(name, 0) + 1
        family.recorded = {}
        due = self.budget.crossed(self.every) or self.budget.spent
        if not (due or self.quality.evaluated):
            return
        row: Row = {"iteration": self.budget.iteration, "images": self.budget.images}
        if due:
            self.latest = self._means(trainer)
            row |= self.latest
        if self.quality.evaluated:
            row |= self.quality.scores
        if trainer.is_global_zero:
            self.metrics.append(row)
            now, images = time.perf_counter(), self.budget.images
            speed = (images - self._since[1]) / (now - self._since[0])
            self.timing.append(
                {"iteration": self.budget.iteration, "images": images, "unix_time": time.time(), "images_per_s": speed}
            )
            self._since = (now, images)
            if self.tracker:
                self.tracker.log(row)

    def _means(self, trainer: Trainer) -> Row:
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        if trainer.world_size > 1:
            together = torch.stack(list(means.values()))  # one message, not one for each
            distributed.all_reduce(together)
            means = dict(zip(means, together / trainer.world_size, strict=True))
        self._sums, self._counts = {}, {}
        if not means:
            return {}
        return dict(
            zip(means, torch.stack(list(means.values())).tolist(), strict=True)
        )  # the device is waited for once

    def state_dict(self) -> dict[str, Any]:
        mine = {"sums": {name: total.cpu() for name, total in self._sums.items()}, "counts": dict(self._counts)}
        ranks: list[Any] = [mine]
        if distributed.is_available() and distributed.is_initialized():
            ranks = [None] * distributed.get_world_size()
            distributed.all_gather_object(ranks, mine)
        return {"ranks": ranks, "tracker": self.tracker.id if self.tracker else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parallel = distributed.is_available() and distributed.is_initialized()
        ranks = state_dict["ranks"]
        if len(ranks) == (distributed.get_world_size() if parallel else 1):
            mine = ranks[distributed.get_rank() if parallel else 0]
        else:  # it goes on with another number of processes
            means = {name: sum(share["sums"][name] for share in ranks) / len(ranks) for name in ranks[0]["sums"]}
            mine = {"sums": means, "counts": ranks[0]["counts"]}
        self._sums, self._counts = (
            {name: torch.as_tensor(total) for name, total in mine["sums"].items()},
            mine["counts"],
        )
