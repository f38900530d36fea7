"""Write sample grids of fixed latents during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.images import Batch, interleave, save_grid
from gan_lab.runs.run_folder import name_run
from gan_lab.seeding import Stream
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker


class SampleGrids(FamilyCallback):
    """Writes ``reals.png`` once, and ``samples/<images>.png`` of the EMA weights at intervals."""

    def __init__(
        self,
        folder: Path,
        every: int,
        data: GANDataModule,
        by_class: bool,
        seed: int,
        ema: EMA,
        progress: Progress,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.folder = folder
        self.every = every
        self.data = data
        self.by_class = by_class
        self.seed = seed
        self.ema = ema
        self.progress = progress
        self.trackers = trackers
        self.batch, self.columns = data.grid_batch(held_out=True, by_class=by_class)
        # rows of digits need no titles
        are_digits = list(data.class_names) == [str(i) for i in range(len(data.class_names))]
        has_titles = by_class and data.class_names and not are_digits
        self.rows = [data.class_names[i] for i in data.grid_classes] if has_titles else []

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        if trainer.is_global_zero and not (self.folder / "reals.png").exists():
            reals, columns = self.data.grid_batch(held_out=False, by_class=self.by_class)
            images, columns = interleave(reals.shown(), columns)
            record = {"output": "real images", "run": name_run(self.folder)}
            save_grid(images, columns, self.folder / "reals.png", self.rows, record)
            for tracker in self.trackers:
                tracker.log_image("reals", self.folder / "reals.png", self.progress.images)
        if self.progress.iteration == 0:
            self.write(trainer, family)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        if self.progress.has_crossed(self.every) or self.progress.spent:
            self.write(trainer, family)

    def describe(self, sets: Sequence[Tensor], batch: Batch, columns: int) -> dict[str, Any]:
        """Describe a grid for its record: which of its columns show real images."""
        reals = batch.shown()
        are_real = [
            any(each.shape == real.shape and torch.equal(each, real) for real in reals)
            for each in sets
        ]
        return {
            "output": "training grid",
            "run": name_run(self.folder),
            "images": self.progress.images,
            "columns": columns,
            "tile": list(sets[0].shape[-2:]),
            "sets": ["real" if is_real else "generated" for is_real in are_real],
        }

    @torch.no_grad()
    def write(self, trainer: Trainer, family: Family) -> None:
        """Write a grid of the current EMA weights."""
        with self.ema.applied(family):
            if trainer.is_global_zero:
                path = self.folder / "samples" / f"{self.progress.images:09d}.png"
                batch = self.batch.to_device(family.device, family.dtype)
                sets = family.sample_grid(batch, Stream(self.seed, "samples"))
                images, columns = interleave(sets, self.columns)
                save_grid(images, columns, path, self.rows, self.describe(sets, batch, columns))
                for tracker in self.trackers:
                    tracker.log_image("samples", path, self.progress.images)
