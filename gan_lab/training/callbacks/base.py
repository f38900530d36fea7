"""Base class of callbacks: Lightning's hooks, typed for families."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lab.families.base import Family

# Lightning's hooks take any LightningModule; Any lets the hooks below narrow the type
LightningCallback: Any = Callback


class FamilyCallback(LightningCallback):
    """A Lightning callback of a family, with empty hooks."""

    def setup(self, trainer: Trainer, family: Family, stage: str) -> None:
        """Called first, on each rank."""

    def teardown(self, trainer: Trainer, family: Family, stage: str) -> None:
        """Called last, if the training succeeds."""

    def on_fit_start(self, trainer: Trainer, family: Family) -> None:
        """Called when the networks are on their device."""

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        """Called after a checkpoint is loaded, before the first iteration."""

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        """Called after each iteration."""

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        """Called when an exception stops the training."""

    def on_save_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        """Add state to a checkpoint before it is saved."""

    def on_load_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        """Restore state from a loaded checkpoint."""


@contextmanager
def evaluation_mode(family: Family, names: list[str]) -> Iterator[None]:
    """Put the named networks in evaluation mode inside the context.

    Otherwise dropout would use random numbers of the training, and a forward pass would move the
    statistics of batch norm and the vectors of spectral norm.
    """
    networks = [getattr(family, name) for name in names if hasattr(family, name)]
    modules = [module for network in networks for module in network.modules()]
    training = [module.training for module in modules]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
