"""The one unit of progress: an iteration is one call of training_step, images seen are iterations x global batch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback


class Progress(FamilyCallback):
    """Counts the iterations; first of the callbacks, so that the others see the new count."""

    def __init__(self, batch_size: int, iterations: int) -> None:
        self.batch_size, self.iterations = batch_size, iterations
        self.iteration = 0

    @property
    def images(self) -> int:
        """Training images seen so far, by all processes together."""
        return self.iteration * self.batch_size

    @property
    def spent(self) -> bool:
        """True if this was the last iteration."""
        return self.iteration >= self.iterations

    def has_crossed(self, every: int) -> bool:
        """True if the last iteration reached the next multiple of so many images."""
        return self.images // every > (self.images - self.batch_size) // every

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        family.iteration += 1
        self.iteration = family.iteration
        family.images_seen = self.images
        if self.spent:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]) -> None:
        checkpoint["iteration"], checkpoint["branch"] = self.iteration, family.branch
        checkpoint.pop("loops")  # Lightning's own counters: the order of the data knows where to go on

    def on_load_checkpoint(self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]) -> None:
        family.iteration = self.iteration = checkpoint["iteration"]
        family.branch = checkpoint.get("branch", 0)  # older checkpoints know of none
        family.images_seen = self.images
