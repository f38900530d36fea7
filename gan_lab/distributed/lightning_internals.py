"""Private names of Lightning and torch, each behind a public one that says what for.

None of them has a public equivalent. Only this file and ``ddp_strategy.py``, which extends
Lightning's strategy, use such names. If a release drops one,
``tests/unit/test_lightning_internals.py`` names it.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store
from torch.utils.data import DataLoader, default_collate

from gan_lab.batches import collate_images


def set_rank(rank: int) -> None:
    """Set the rank of this process, which Lightning would only find out later."""
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


def default_store() -> Any:
    """Return the key-value store by which the ranks found each other."""
    return _get_default_store()


def leave_signals_alone(trainer: Trainer) -> None:
    """Disable Lightning's SIGTERM handler, which communicates with other ranks mid-iteration."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # Lightning calls it at each batch.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def count_iteration(trainer: Trainer) -> None:
    """Increment ``trainer.global_step``, so that ``max_steps`` counts iterations.

    Lightning counts the steps of its own optimizer wrappers, but a GAN's iteration has several
    optimizer steps or skips some.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


def convert_pil_images(trainer: Trainer) -> None:
    """Convert PIL images to tensors in the loaders that were passed to ``fit``."""
    given = trainer.fit_loop._data_source.instance
    loaders = (
        given.values()
        if isinstance(given, dict)
        else given
        if isinstance(given, list | tuple)
        else [given]
    )
    for loader in loaders:
        nested = loader.flattened if isinstance(loader, CombinedLoader) else [loader]
        for each in nested:
            if isinstance(each, DataLoader) and each.collate_fn is default_collate:
                each.collate_fn = collate_images


def flags_before_toggling(module: LightningModule) -> Any:
    """Return the ``requires_grad`` flags that ``toggled_optimizer`` restores when it ends."""
    return module._param_requires_grad_state


def set_flags_before_toggling(module: LightningModule, flags: Any) -> None:
    """Set the ``requires_grad`` flags that ``toggled_optimizer`` restores when it ends."""
    module._param_requires_grad_state = flags


def subtract_all(tensors: list[Tensor], others: list[Tensor]) -> tuple[Tensor, ...]:
    """Return ``a - b`` for each pair of two lists, in one kernel launch."""
    return torch._foreach_sub(tensors, others)


def norm_all(tensors: list[Tensor], order: float) -> tuple[Tensor, ...]:
    """Return the norm of each tensor of a list, in one kernel launch."""
    return torch._foreach_norm(tensors, order)


class OpenProgressBar(RichProgressBar):
    """Lightning's progress bar of rich, its parts by public names."""

    def move_to(self, completed: int) -> None:
        """Draw the training bar at this number of completed steps."""
        self._update(self.train_progress_bar_id, completed)

    def show_metrics(self, trainer: Trainer, module: Any) -> None:
        """Draw the metrics that ``get_metrics`` returns."""
        self._update_metrics(trainer, module)
