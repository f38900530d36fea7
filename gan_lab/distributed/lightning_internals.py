"""Every private name of Lightning and torch that the lab uses, each behind a public one that says what for.

None of them has a public counterpart. If a release drops one, ``tests/unit/test_lightning_internals.py`` names it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store
from torch.utils.data import DataLoader, default_collate

from gan_lab.batches import collate_images


def set_rank(rank: int) -> None:
    """Set the rank of this process, which Lightning would only find out later."""
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


def set_num_threads(processes: int) -> None:
    """Share the CPU cores among the processes of this machine, as Lightning does."""
    _set_num_threads_if_needed(num_processes=processes)


def default_store() -> Any:
    """Return the key-value store by which the ranks found each other."""
    return _get_default_store()


def leave_signals_alone(trainer: Trainer) -> None:
    """Disable Lightning's handler of SIGTERM, which communicates with the other ranks within an iteration."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # Lightning calls it at each batch.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def count_iteration(trainer: Trainer) -> None:
    """Let ``trainer.global_step`` grow by one: Lightning counts the steps of its own optimizer wrappers, and a GAN's
    iteration has several or skips some. ``max_steps`` and ``every_n_train_steps`` then mean iterations.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


def convert_pil_images(trainer: Trainer) -> None:
    """Let the loaders that were passed to ``fit`` yield tensors where their data sets yield PIL images."""
    given = trainer.fit_loop._data_source.instance
    loaders = given.values() if isinstance(given, dict) else given if isinstance(given, list | tuple) else [given]
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


class UncheckedSLURMEnvironment(SLURMEnvironment):
    """SLURM's variables without Lightning's checks, which refuse options that set the number of tasks."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """Accept all variables: ``detect_launcher`` has checked them."""


class SubprocessLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of the other processes of this machine, its parts by public names."""

    def start_children(self) -> None:
        """Start the other processes of this machine, and list them in ``procs``."""
        self._call_children_scripts()


class LauncherDDPStrategy(DDPStrategy):
    """Lightning's DDP whose launcher a subclass chooses."""

    def create_launcher(self) -> Any:
        """Create the launcher of this machine's processes."""
        raise NotImplementedError

    def _configure_launcher(self) -> None:
        self._launcher = self.create_launcher()

    @property
    def timeout(self) -> timedelta | None:
        """The time that a rank waits for the others."""
        return self._timeout

    @property
    def backend(self) -> str:
        """The backend of the process group: gloo or nccl."""
        return self._get_process_group_backend()


class OpenProgressBar(RichProgressBar):
    """Lightning's progress bar of rich, its parts by public names."""

    def move_to(self, completed: int) -> None:
        """Draw the training bar at this number of completed steps."""
        self._update(self.train_progress_bar_id, completed)

    def show_metrics(self, trainer: Trainer, module: Any) -> None:
        """Draw the metrics that ``get_metrics`` returns."""
        self._update_metrics(trainer, module)
