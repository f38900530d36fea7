"""Rewrite the report page during training, with the generator of the current iteration."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from gan_lab import report
from gan_lab.families.base import Family
from gan_lab.report.run_page import Training
from gan_lab.runs.ema_networks import EMANetworks, build_networks, name_classes
from gan_lab.training.callbacks import grid_schedule
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.sample_grids import SampleGrids
from gan_lab.training.callbacks.time_left import TimeLeft
from gan_lab.utils.errors import first_line

logger = logging.getLogger("gan_lab")


class LivePage(FamilyCallback):
    """Writes ``report.html`` after each new grid on rank 0, if the training has time for it.

    All pages together take up to ``MAX_COST_SHARE`` of the training time. The first page is always
    written; what it imports and traces, the page at the end uses again. An error disables the page,
    and never stops the training.

    Attributes:
        cost_s: Seconds of all pages after the first one.
    """

    def __init__(
        self,
        folder: Path,
        class_names: list[str],
        ema: EMA,
        progress: Progress,
        sample_grids: SampleGrids,
        time_left: TimeLeft,
    ) -> None:
        self.folder = folder
        self.class_names = class_names
        self.ema = ema
        self.progress = progress
        self.sample_grids = sample_grids
        self.time_left = time_left
        self.cost_s = 0.0
        self._started_s = 0.0
        self._last_cost_s: float | None = None
        self._is_disabled = False

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        self._started_s = time.monotonic()
        self.time_left.start()

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        is_new = self.sample_grids.drawn_at == self.progress.iteration
        if trainer.is_global_zero and is_new and not self._is_disabled and self._is_affordable():
            self.write(family)

    def _is_affordable(self) -> bool:
        """Return whether another page keeps the cost of all pages below its share.

        The share is that of the whole training: pages are more frequent at its beginning.
        """
        elapsed_s = time.monotonic() - self._started_s
        # trainings of a second are tests, and their page at the end comes soon
        if elapsed_s < grid_schedule.FIRST_GRID_S:
            return False
        # a measurement trains without a run
        if not (self.folder / "config.yaml").is_file():
            return False
        if self._last_cost_s is None:
            return True
        whole_s = elapsed_s + (self.time_left.training_s or 0.0)
        return self.cost_s + self._last_cost_s <= grid_schedule.MAX_COST_SHARE * whole_s

    def write(self, family: Family) -> None:
        """Write the page of the current EMA weights; warn if that is not possible."""
        started = time.monotonic()
        try:
            # building and tracing networks draws random numbers
            with torch.random.fork_rng(devices=[]):
                networks = self._copy_networks(family)
                page = report.write_live(self.folder, networks, self._describe())
        except Exception as error:
            self._is_disabled = True
            warnings.warn(
                f"The report page is not updated during this training: {first_line(error)}",
                stacklevel=2,
            )
            return
        if self._last_cost_s is None:
            logger.info(f"report: {page} (updated during training; open it now)")
            self._last_cost_s = 0.0
        else:
            self._last_cost_s = time.monotonic() - started
            self.cost_s += self._last_cost_s
            self.sample_grids.cost_s += self._last_cost_s

    def _copy_networks(self, family: Family) -> EMANetworks | None:
        """Copy the EMA networks to the CPU; None for a family without a generator."""
        recipes = {name: getattr(family, name).recipe for name in self.ema.networks}
        if "generator" not in recipes:
            return None
        weights = {
            name: {
                key: value.detach().to("cpu", copy=True) for key, value in net.state_dict().items()
            }
            for name, net in self.ema.networks.items()
        }
        networks = build_networks(recipes, weights)
        classes = recipes["generator"]["arguments"].get("classes", 0)
        names = name_classes(self.class_names, classes)
        checkpoint = self.folder / "checkpoints" / "last.ckpt"
        return EMANetworks(checkpoint, networks, names, self.progress.iteration, {}, [])

    def _describe(self) -> Training:
        total = self.progress.iterations * self.progress.batch_size
        stage = "Final scores are being computed" if self.progress.spent else "Training"
        return Training(
            self.progress.images, total, stage, str(self.time_left), self._estimate_next_s()
        )

    def _estimate_next_s(self) -> float:
        """Estimate the seconds until the next page.

        A page that is older than twice this time says that the training may have stopped.
        """
        elapsed_s = time.monotonic() - self._started_s
        training_s, speed = self.time_left.training_s, self.time_left.images_per_s
        gap = self.sample_grids.count_images_until_next()
        if self.progress.spent or not training_s or not speed or not gap:
            # the first grids come after twice the time each
            return min(elapsed_s, grid_schedule.GRID_INTERVAL_S)
        # the page that is being written, and the next one
        cost_s = self.cost_s + 2 * (self._last_cost_s or 0.0)
        if cost_s > grid_schedule.MAX_COST_SHARE * (elapsed_s + training_s):
            # no time for another page before the end
            return training_s
        return gap / speed
