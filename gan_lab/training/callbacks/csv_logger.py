"""Log means and scores to metrics.csv, timing.csv and trackers.

metrics.csv has no wall-clock times, so that equal runs have equal files.
"""

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

from gan_lab.distributed.gradients import is_distributed
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.files import read_rows, write_text

Row = dict[str, float]


class Table:
    """A CSV file that is complete after every row; new columns are added to the header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def rewind(self, iteration: int) -> None:
        """Remove the rows after an iteration, and an incomplete last line."""
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
    """Format rows as the lines of a CSV file, without the header."""
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


class Mean:
    """Running mean of scalars on a device, summed in chunks to launch fewer kernels."""

    # fixed, so that a resumed run sums in the same order
    CHUNK_SIZE = 64

    def __init__(
        self, total: Tensor | None = None, count: int = 0, pending: Sequence[Tensor] = ()
    ) -> None:
        self.total, self.count, self.pending = total, count, list(pending)

    def add(self, value: Tensor) -> None:
        self.pending.append(value)
        if len(self.pending) == self.CHUNK_SIZE:
            self.total, self.count, self.pending = self._sum(), self.count + self.CHUNK_SIZE, []

    def value(self) -> Tensor:
        """Return the mean in float64."""
        return self._sum() / (self.count + len(self.pending))

    def _sum(self) -> Tensor:
        parts = [torch.stack(self.pending).double().sum()] if self.pending else []
        parts += [] if self.total is None else [self.total]
        return parts[0] if len(parts) == 1 else parts[1] + parts[0]

    def state(self) -> tuple[Tensor | None, int, list[Tensor]]:
        """Return the arguments of ``Mean`` that restore this mean, on the CPU."""
        pending = list(torch.stack(self.pending).cpu()) if self.pending else []
        return None if self.total is None else self.total.cpu(), self.count, pending

    def to(self, device: torch.device) -> Mean:
        """Return a copy on another device."""
        total = None if self.total is None else self.total.to(device)
        return Mean(total, self.count, [value.to(device) for value in self.pending])


def _restore_means(share: Mapping[str, Any]) -> dict[str, Mean]:
    """Restore the means that one rank has saved."""
    # older checkpoints
    if "sums" in share:
        return {
            name: Mean(torch.as_tensor(total), share["counts"][name])
            for name, total in share["sums"].items()
        }
    return {name: Mean(*state) for name, state in share.items()}


class CSVLogger(FamilyCallback):
    """Logs the means since the last row at intervals, and the scores at each evaluation."""

    def __init__(
        self,
        folder: Path,
        every: int,
        progress: Progress,
        evaluation: Evaluation,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.every = every
        self.progress = progress
        self.evaluation = evaluation
        self.trackers = trackers
        self.metrics = Table(folder / "metrics.csv")
        self.timing = Table(folder / "timing.csv")
        # the latest means, for health checks and the progress bar
        self.latest: Row = {}
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
            # one message for all means
            distributed.all_reduce(means)
            means = means / trainer.world_size
        names, self._since_row = list(self._since_row), {}
        # tolist() synchronizes with the device once for all means
        return dict(zip(names, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        states = {name: mean.state() for name, mean in self._since_row.items()}
        ranks: list[Any] = [states]
        if is_distributed():
            ranks = [None] * distributed.get_world_size()
            distributed.all_gather_object(ranks, states)
        return {
            "ranks": ranks,
            "tracker_ids": {each.name: each.id for each in self.trackers},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parallel = is_distributed()
        ranks = [_restore_means(share) for share in state_dict["ranks"]]
        if len(ranks) == (distributed.get_world_size() if parallel else 1):
            self._since_row = ranks[distributed.get_rank() if parallel else 0]
        else:
            # The run resumes with another number of processes.
            for name, first in ranks[0].items():
                n = first.count + len(first.pending)
                total = torch.stack([share[name].value() for share in ranks]).mean() * n
                self._since_row[name] = Mean(total, n)
