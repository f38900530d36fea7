"""Training progress in images seen: iterations x global batch size."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback


class Progress(FamilyCallback):
    """Counts iterations, and stops the training at the end of its budget.

    Must precede all callbacks that read the count.
    """

    def __init__(self, batch_size: int, iterations: int) -> None:
        self.batch_size, self.iterations = batch_size, iterations
        self.iteration = 0

    @property
    def images(self) -> int:
        """Training images seen so far, summed over all processes."""
        return self.iteration * self.batch_size

    @property
    def spent(self) -> bool:
        """True if this was the last iteration."""
        return self.iteration >= self.iterations

    def has_crossed(self, every: int) -> bool:
        """Return whether the last iteration reached a multiple of ``every`` images."""
        return self.images // every > (self.images - self.batch_size) // every

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        self.iteration = family.iteration
        if self.spent:
            trainer.should_stop = True

    def on_save_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        # the batch sampler resumes by the iteration, without Lightning's own counters
        checkpoint.pop("loops")

    def on_load_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        self.iteration = checkpoint["iteration"]
