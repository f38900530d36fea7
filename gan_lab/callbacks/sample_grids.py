"""Grids of the same latents all through the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from gan_lab.callbacks.ema import EMA
from gan_lab.callbacks.progress import Budget
from gan_lab.data.base import LabData
from gan_lab.families.base import Family
from gan_lab.images import arranged, save_grid
from gan_lab.seeding import Stream


class Samples(Callback):
    """Writes ``reals.png`` once and ``samples/<images seen>.png`` of the averaged generator at intervals."""

    def __init__(
        self, folder: Path, every: int, data: LabData, by_class: bool, seed: int, ema: EMA, budget: Budget
    ) -> None:
        self.folder, self.every, self.data, self.by_class, self.seed = folder, every, data, by_class, seed
        self.ema, self.budget = ema, budget
        self.batch, self.columns = data.fixed(held_out=True, by_class=by_class)
        names = data.class_names[:10] if by_class else []
        self.rows = names if names != [str(i) for i in range(len(names))] else []  # a row of digits says it itself

    def on_train_start(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        if trainer.is_global_zero and not (self.folder / "reals.png").exists():
            reals, columns = self.data.fixed(held_out=False, by_class=self.by_class)
            save_grid(*arranged(reals.shown(), columns), self.folder / "reals.png", self.rows)
        if self.budget.iteration == 0:
            self.write(trainer, family)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:  # type: ignore[override]
        if self.budget.crossed(self.every) or self.budget.spent:
            self.write(trainer, family)

    @torch.no_grad()
    def write(self, trainer: Trainer, family: Family) -> None:
        """One grid of the generator as it is now."""
        with self.ema.applied(family):
            if trainer.is_global_zero:
                path = self.folder / "samples" / f"{self.budget.images:09d}.png"
                sets = family.picture(self.batch.on(family.device, family.dtype), Stream(self.seed, "samples"))
                save_grid(*arranged(sets, self.columns), path, self.rows)
