"""Stop before a checkpoint, score or grid is computed from NaN or infinite weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gan_lab.distributed.lightning_internals import norm_all
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress

# values named in the error message
MAX_NAMED_VALUES = 3


class DivergedError(ValueError):
    """Weights or losses of an iteration are NaN or Inf."""

    def __init__(self, values: Sequence[str], iteration: int, images: int) -> None:
        self.named = ", ".join(values[:MAX_NAMED_VALUES])
        if len(values) > MAX_NAMED_VALUES:
            self.named += f" and {len(values) - MAX_NAMED_VALUES} more"
        self.iteration = iteration
        self.images = images
        super().__init__(
            f"diverged: {self.named} not finite at iteration {iteration:,} ({images:,} images)"
        )


class FiniteCheck(FamilyCallback):
    """Raises ``DivergedError`` on all ranks if a weight or logged value is NaN or Inf.

    Checks at the intervals ``every``, in images, of the callbacks that use the weights. It must
    precede them.
    """

    def __init__(self, every: Sequence[int], ema: EMA, progress: Progress) -> None:
        self.every, self.ema, self.progress = every, ema, progress

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        if self.progress.spent or any(self.progress.has_crossed(every) for every in self.every):
            self.check(trainer, family)

    def check(self, trainer: Trainer, family: Family) -> None:
        """Check the raw weights, EMA weights and logged values.

        Raises:
            DivergedError: One of them is NaN or Inf.
        """
        networks = dict(family.named_children()) | {
            f"EMA {name}": net for name, net in self.ema.networks.items()
        }
        tensors = {
            name: [*network.parameters(), *network.buffers()] for name, network in networks.items()
        }
        bad = not_finite(tensors | {name: [value] for name, value in family.logged_scalars.items()})
        diverged = bool(bad)
        # batch norm statistics differ between the ranks
        if trainer.world_size > 1:
            diverged = trainer.strategy.reduce_boolean_decision(diverged, all=False)
        if diverged:
            raise DivergedError(
                bad or ["a value on another rank"], self.progress.iteration, self.progress.images
            )


@torch.no_grad()
def not_finite(groups: Mapping[str, Sequence[Tensor]]) -> list[str]:
    """Return the names of the groups that contain NaN or Inf; synchronizes with the device once."""
    finite = {}
    for name, tensors in groups.items():
        floating = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
        # a tensor is finite if its maximum norm is; computed in one kernel launch for many tensors
        if floating:
            finite[name] = torch.stack(norm_all(floating, math.inf)).isfinite().all()
    if not finite:
        return []
    return [
        name
        for name, fine in zip(finite, torch.stack(list(finite.values())).tolist(), strict=True)
        if not fine
    ]
