"""Whether a GPU does what a CPU does, and how fast: `make gpu-check`, sized for nine minutes on one H100.

Each check gives rows: what was measured, its figure, the bar, and whether it is met. One that raises is a row as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from benchmarks.throughput import wait
from gan_lab.config import loading
from gan_lab.config.schema import with_values
from gan_lab.families.base import Family
from gan_lab.runs.checkpoints import latest_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from gan_lab.training.builder import Experiment

FEW = (
    "metrics.num_fakes=100",
    "metrics.num_reals=100",
    "metrics.allow_small_n=true",
)  # where scores are not looked at


@dataclass
class Row:
    """A line of the table; without a bar it is a figure to know."""

    what: str
    figure: str
    bar: str = ""
    met: bool = True

    def __str__(self) -> str:
        verdict = ("met" if self.met else "NOT MET") if self.bar else ""
        return f"| {self.what} | {self.figure} | {self.bar} | {verdict} |"


Rows = Iterator[Row]


@dataclass
class Setting:
    """Where the checks work, and how long."""

    folder: Path
    rehearsal: bool  # on a CPU, a few iterations of everything: whether the script works
    families: dict[str, str] = field(default_factory=lambda: families())  # with an experiment each

    def few(self, n: int) -> int:
        """So many iterations, or two."""
        return 2 if self.rehearsal else n


class Clock(Callback):
    """Seconds of the ``measured`` iterations after ``warm_up`` of them, the device waited for at both ends."""

    def __init__(self, warm_up: int, measured: int) -> None:
        self.warm_up, self.measured = warm_up, measured
        self.seconds = self.host = 0.0  # of an iteration; until it was handed to the device

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:  # type: ignore[override]
        if family.iteration == self.warm_up:
            wait()
            self._begun = time.perf_counter()
        elif family.iteration == self.warm_up + self.measured:
            self.host = (time.perf_counter() - self._begun) / self.measured
            wait()
            self.seconds = (time.perf_counter() - self._begun) / self.measured


@cache
def families() -> dict[str, str]:
    """Every family, with an experiment of it."""
    every = {name: loading.load(name).config.family for name in loading.experiments()}
    return {family: family if family in every else next(n for n, f in every.items() if f == family)
            for family in loading.families()}  # fmt: skip


def built(
    name: str, words: Sequence[str], folder: Path, iterations: int, clock: Clock | None = None
) -> Experiment:
    """An experiment that trains so long, without grids and scores on its way."""
    quiet = [
        "data.source=sample",
        "log.wandb=off",
        "log.progress_bar=false",
        "run.evaluate_every_images=1_000_000_000",
        "log.grid_every_images=1_000_000_000",
    ]
    loaded = loading.load(name, [*quiet, *words])
    made = with_values(loaded.config, {"run.images": loaded.config.data.batch_size * iterations})
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return builder.build(
        *builder.load_data(made), RunFolder(folder), extra=[clock] if clock else []
    )


def trained(name: str, words: Sequence[str], folder: Path, iterations: int) -> Experiment:
    """``built``, and trained; without the evaluation at its end. What it has left off, it goes on with."""
    made = built(name, words, folder, iterations)
    made.evaluation.evaluator.metrics = []
    made.trainer.fit(
        made.family, datamodule=made.data, ckpt_path=latest_checkpoint(folder), weights_only=True
    )
    return made


def distance(ones: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    """‖one - other‖ / ‖other‖ of all tensors together."""
    one, other = (
        torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (ones, others)
    )
    return float((one - other).norm() / other.norm())
