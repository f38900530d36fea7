"""Every private name of Lightning and torch that the lab uses, and what it needs each for.

None of them has a public counterpart. A release that drops one fails ``tests/unit/test_lightning_internals.py`` by its
name.
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
    """Tell Lightning this process's rank, which it would only know later."""
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


def set_num_threads(processes: int) -> None:
    """Share the cores among so many processes, as Lightning does."""
    _set_num_threads_if_needed(num_processes=processes)


def default_store() -> Any:
    """The key-value store by which the processes found each other."""
    return _get_default_store()


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning's handler of SIGTERM away: it talks to the other processes in the middle of an iteration."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]  # at each batch


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
    """The flags that ``toggled_optimizer`` puts back when it ends: for which weights gradients were taken before."""
    return module._param_requires_grad_state


def set_flags_before_toggling(module: LightningModule, flags: Any) -> None:
    """Let ``toggled_optimizer`` put back these."""
    module._param_requires_grad_state = flags


def subtract_all(tensors: list[Tensor], others: list[Tensor]) -> tuple[Tensor, ...]:
    """a - b for each pair of two lists, in one launch."""
    return torch._foreach_sub(tensors, others)


def norm_all(tensors: list[Tensor], order: float) -> tuple[Tensor, ...]:
    """The norm of each tensor of a list, in one launch."""
    return torch._foreach_norm(tensors, order)


class UncheckedSLURMEnvironment(SLURMEnvironment):
    """SLURM's variables without Lightning's checks of them, which refuse options that say the number of tasks."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """``detect_launcher`` has."""


class ChildLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of the other processes of this machine, its parts by public names."""

    def start_children(self) -> None:
        """Start the other processes; they are in ``procs``."""
        self._call_children_scripts()


class OpenDDPStrategy(DDPStrategy):
    """Lightning's DDP, its parts by public names."""

    def create_launcher(self) -> Any:
        """Create the launcher of this machine's processes."""
        raise NotImplementedError

    def _configure_launcher(self) -> None:
        self._launcher = self.create_launcher()

    @property
    def timeout(self) -> timedelta | None:
        """For how long a process waits for the others."""
        return self._timeout

    @property
    def backend(self) -> str:
        """gloo or nccl."""
        return self._get_process_group_backend()


class OpenProgressBar(RichProgressBar):
    """Lightning's bar of rich, its parts by public names."""

    def move_to(self, completed: int) -> None:
        """Draw the bar of the training at this place."""
        self._update(self.train_progress_bar_id, completed)

    def show_metrics(self, trainer: Trainer, module: Any) -> None:
        """Draw what ``get_metrics`` returns."""
        self._update_metrics(trainer, module)
