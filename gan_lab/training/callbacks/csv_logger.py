"""Log means and scores to metrics.csv (no wall-clock, so that equal runs have equal files), timing.csv and trackers."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, distributed

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.files import read_rows, write_text

Row = dict[str, float]


class Table:
    """A CSV file of rows under one header, complete after every row; a column that comes later is added to the header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def rewind(self, iteration: int) -> None:
        """Forget the rows after an iteration, and a last line that was cut off in the middle."""
        rows = [row for row in read_rows(self.path) if int(row["iteration"]) <= iteration]
        self.columns = [
            name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)
        ]
        self._rewrite([{name: row[name] for name in self.columns} for row in rows])

    def append(self, row: Row) -> None:
        new = [name for name in row if name not in self.columns]
        if new:
            before = read_rows(self.path)
            self.columns += new
            self._rewrite(before)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(
                csv_lines([{name: repr(value) for name, value in row.items()}], self.columns)
            )

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        header = ",".join(self.columns) + "\n" if self.columns else ""
        write_text(self.path, header + csv_lines(rows, self.columns))


def csv_lines(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Rows as the lines of a CSV file, without the header."""
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


class Mean:
    """The mean of scalars on a device, added up many at a time: each addition is a launch there."""

    MANY = 64  # at a fixed number, so that a continued run adds in the same order

    def __init__(
        self, total: Tensor | None = None, count: int = 0, pending: Sequence[Tensor] = ()
    ) -> None:
        self.total, self.count, self.pending = total, count, list(pending)

    def add(self, value: Tensor) -> None:
        self.pending.append(value)
        if len(self.pending) == self.MANY:
            self.total, self.count, self.pending = self._sum(), self.count + self.MANY, []

    def value(self) -> Tensor:
        """In float64."""
        return self._sum() / (self.count + len(self.pending))

    def _sum(self) -> Tensor:
        parts = [torch.stack(self.pending).double().sum()] if self.pending else []
        parts += [] if self.total is None else [self.total]
        return parts[0] if len(parts) == 1 else parts[1] + parts[0]

    def state(self) -> tuple[Tensor | None, int, list[Tensor]]:
        """Return the arguments that ``Mean(*state)`` continues from, on the CPU."""
        pending = list(torch.stack(self.pending).cpu()) if self.pending else []
        return None if self.total is None else self.total.cpu(), self.count, pending

    def to(self, device: torch.device) -> Mean:
        """On another device."""
        total = None if self.total is None else self.total.to(device)
        return Mean(total, self.count, [value.to(device) for value in self.pending])


def _means_of(share: Mapping[str, Any]) -> dict[str, Mean]:
    """Rebuild the means that one process has saved."""
    if "sums" in share:  # in older checkpoints
        return {
            name: Mean(torch.as_tensor(total), share["counts"][name])
            for name, total in share["sums"].items()
        }
    return {name: Mean(*state) for name, state in share.items()}


class CSVLogger(FamilyCallback):
    """A row of the means since the last row every so many images, and at each evaluation with the scores in it."""

    def __init__(
        self,
        folder: Path,
        every: int,
        progress: Progress,
        evaluation: Evaluation,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.every, self.progress, self.evaluation, self.trackers = (
            every,
            progress,
            evaluation,
            trackers,
        )
        self.metrics, self.timing = Table(folder / "metrics.csv"), Table(folder / "timing.csv")
        self.latest: Row = {}  # the last means, for the progress bar
        self._since_row: dict[str, Mean] = {}
        self._since = (0.0, 0)

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        if trainer.is_global_zero:
            self.metrics.rewind(self.progress.iteration)
            self.timing.rewind(self.progress.iteration)
            directions = json.dumps(self.evaluation.evaluator.higher_is_better, indent=1)
            write_text(self.metrics.path.with_name("scores.json"), directions)
        self._since_row = {name: mean.to(family.device) for name, mean in self._since_row.items()}
        self._since = (time.perf_counter(), self.progress.images)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        for name, value in family.logged_scalars.items():
            self._since_row.setdefault(name, Mean()).add(value)
        family.logged_scalars = {}
        due = self.progress.has_crossed(self.every) or self.progress.spent
        if not (due or self.evaluation.evaluated):
            return
        row: Row = {"iteration": self.progress.iteration, "images": self.progress.images}
        if due:
            self.latest = self._means(trainer)
            row |= self.latest
        if self.evaluation.evaluated:
            row |= self.evaluation.scores
        if trainer.is_global_zero:
            self.metrics.append(row)
            now, images = time.perf_counter(), self.progress.images
            speed = (images - self._since[1]) / (now - self._since[0])
            self.timing.append(
                {
                    "iteration": self.progress.iteration,
                    "images": images,
                    "unix_time": time.time(),
                    "images_per_s": speed,
                }
            )
            self._since = (now, images)
            for tracker in self.trackers:
                tracker.log(row)

    def _means(self, trainer: Trainer) -> Row:
        if not self._since_row:
            return {}
        means = torch.stack([mean.value() for mean in self._since_row.values()])
        if trainer.world_size > 1:
            distributed.all_reduce(means)  # one message, not one for each
            means = means / trainer.world_size
        names, self._since_row = list(self._since_row), {}
        return dict(zip(names, means.tolist(), strict=True))  # the device is waited for once

    def state_dict(self) -> dict[str, Any]:
        states = {name: mean.state() for name, mean in self._since_row.items()}
        ranks: list[Any] = [states]
        if distributed.is_available() and distributed.is_initialized():
            ranks = [None] * distributed.get_world_size()
            distributed.all_gather_object(ranks, states)
        return {
            "ranks": ranks,
            "wandb_id": next((each.id for each in self.trackers if each.id), None),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parallel = distributed.is_available() and distributed.is_initialized()
        ranks = [_means_of(share) for share in state_dict["ranks"]]
        if len(ranks) == (distributed.get_world_size() if parallel else 1):
            self._since_row = ranks[distributed.get_rank() if parallel else 0]
        else:  # it goes on with another number of processes
            for name, first in ranks[0].items():
                n = first.count + len(first.pending)
                total = torch.stack([share[name].value() for share in ranks]).mean() * n
                self._since_row[name] = Mean(total, n)
