"""Compare a GPU with the CPU and measure its speed (make gpu-check), in nine minutes on one H100.

Each check yields rows: what was measured, its value, the threshold, and whether it is met. A check
that raises is a row too.
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

from benchmarks.throughput import synchronize
from gan_lab.config import loading
from gan_lab.config.schema import with_values
from gan_lab.families.base import Family
from gan_lab.runs.checkpoints import latest_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from gan_lab.training.builder import Experiment

# For checks that do not use the scores.
FEW_IMAGES = ("metrics.num_fakes=100", "metrics.num_reals=100", "metrics.allow_small_n=true")


@dataclass
class Row:
    """A row of the table. Without a threshold it is only information."""

    name: str
    value: str
    threshold: str = ""
    met: bool = True

    def __str__(self) -> str:
        verdict = ("met" if self.met else "NOT MET") if self.threshold else ""
        return f"| {self.name} | {self.value} | {self.threshold} | {verdict} |"


Rows = Iterator[Row]


@dataclass
class Setting:
    """Options of the checks.

    Attributes:
        folder: Folder for runs and files.
        rehearsal: Whether to run a few iterations of every check on a CPU, to test the script.
        families: Families to check, with an experiment each.
    """

    folder: Path
    rehearsal: bool
    families: dict[str, str] = field(default_factory=lambda: find_experiments())

    def limit_iterations(self, n: int) -> int:
        """Return n, or 2 in a rehearsal."""
        return 2 if self.rehearsal else n


class Clock(Callback):
    """Measures the time of an iteration after the warmup, synchronizing with the device.

    Attributes:
        seconds: Seconds per iteration.
        host_seconds: Seconds per iteration until the host has launched its kernels.
    """

    def __init__(self, warmup: int, measured: int) -> None:
        self.warmup = warmup
        self.measured = measured
        self.seconds = 0.0
        self.host_seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:  # type: ignore[override]
        if family.iteration == self.warmup:
            synchronize()
            self._started = time.perf_counter()
        elif family.iteration == self.warmup + self.measured:
            self.host_seconds = (time.perf_counter() - self._started) / self.measured
            synchronize()
            self.seconds = (time.perf_counter() - self._started) / self.measured


@cache
def find_experiments() -> dict[str, str]:
    """Find an experiment for each family, by the name of the family."""
    by_family: dict[str, str] = {}
    for name in loading.experiments():
        by_family.setdefault(loading.load(name).config.family, name)
    experiments = loading.experiments()
    return {
        family: family if family in experiments else by_family[family]
        for family in loading.families()
    }


def build_experiment(
    name: str, overrides: Sequence[str], folder: Path, iterations: int, clock: Clock | None = None
) -> Experiment:
    """Build an experiment that trains for ``iterations`` without grids and evaluations."""
    quiet = [
        "data.source=sample",
        "log.wandb=off",
        "log.progress_bar=false",
        "run.evaluate_every_images=1_000_000_000",
        "log.grid_every_images=1_000_000_000",
    ]
    loaded = loading.load(name, [*quiet, *overrides])
    config = with_values(loaded.config, {"run.images": loaded.config.data.batch_size * iterations})
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return builder.build(
        *builder.load_data(config), RunFolder(folder), extra=[clock] if clock else []
    )


def train_experiment(
    name: str, overrides: Sequence[str], folder: Path, iterations: int
) -> Experiment:
    """Train an experiment without its last evaluation; a checkpoint in the folder is resumed."""
    built = build_experiment(name, overrides, folder, iterations)
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(
        built.family, datamodule=built.data, ckpt_path=latest_checkpoint(folder), weights_only=True
    )
    return built


def compute_difference(values: Iterable[Tensor], reference: Iterable[Tensor]) -> float:
    """Compute ‖values - reference‖ / ‖reference‖ over all tensors together."""
    x, y = (
        torch.cat([tensor.double().flatten() for tensor in tensors])
        for tensors in (values, reference)
    )
    return float((x - y).norm() / y.norm())
