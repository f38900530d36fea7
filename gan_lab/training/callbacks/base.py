"""Lightning's Callback whose module is a family: the hooks that the lab uses, with the narrower type."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lab.families.base import Family

LightningCallback: Any = Callback  # its hooks take any LightningModule; the type checker is not told, so that these may narrow it


class FamilyCallback(LightningCallback):
    """A callback of a family; every hook does nothing until it is overridden."""

    def setup(self, trainer: Trainer, family: Family, stage: str) -> None:
        """Before anything else, on each rank."""

    def teardown(self, trainer: Trainer, family: Family, stage: str) -> None:
        """After everything else, at a good end."""

    def on_fit_start(self, trainer: Trainer, family: Family) -> None:
        """When the networks are on their device."""

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        """When a checkpoint is loaded, before the first iteration."""

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        """After each iteration."""

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        """When the training is broken off."""

    def on_save_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        """Add to a checkpoint that is about to be written."""

    def on_load_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        """Take from a checkpoint that was read."""
