"""Stop before a checkpoint, score or grid is made from NaN or infinite weights."""

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

NAMED = 3  # values, of what can be a dozen


class DivergedError(ValueError):
    """Weights or losses of this iteration are not finite: the training can't go on from here."""

    def __init__(self, values: Sequence[str], iteration: int, images: int) -> None:
        self.named = ", ".join(values[:NAMED]) + (
            f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
        )
        self.iteration, self.images = iteration, images
        super().__init__(
            f"diverged: {self.named} not finite at iteration {iteration:,} ({images:,} images)"
        )


class FiniteCheck(FamilyCallback):
    """Raises ``DivergedError``, on all ranks alike, where something is due and a weight or a recorded value is not finite.

    It stands before all that draws, scores and writes. ``every`` are the intervals, in images, at which they do.
    """

    def __init__(self, every: Sequence[int], ema: EMA, progress: Progress) -> None:
        self.every, self.ema, self.progress = every, ema, progress

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        if self.progress.spent or any(self.progress.has_crossed(every) for every in self.every):
            self.check(trainer, family)

    def check(self, trainer: Trainer, family: Family) -> None:
        """Raise ``DivergedError`` if this iteration's weights, averaged ones or recorded values are not finite."""
        networks = dict(family.named_children()) | {
            f"averaged {name}": net for name, net in self.ema.networks.items()
        }
        tensors = {
            name: [*network.parameters(), *network.buffers()] for name, network in networks.items()
        }
        bad = not_finite(tensors | {name: [value] for name, value in family.logged_scalars.items()})
        diverged = bool(bad)
        if trainer.world_size > 1:  # batch-norm statistics differ between the ranks
            diverged = trainer.strategy.reduce_boolean_decision(diverged, all=False)
        if diverged:
            raise DivergedError(
                bad or ["a value of another process"], self.progress.iteration, self.progress.images
            )


@torch.no_grad()
def not_finite(groups: Mapping[str, Sequence[Tensor]]) -> list[str]:
    """Find the groups that hold a NaN or an infinite number; the device is waited for once."""
    finite = {}
    for name, tensors in groups.items():
        floating = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
        if floating:  # the largest magnitude of each is finite where all of it is: one launch for many tensors
            finite[name] = torch.stack(norm_all(floating, math.inf)).isfinite().all()
    if not finite:
        return []
    return [
        name
        for name, fine in zip(finite, torch.stack(list(finite.values())).tolist(), strict=True)
        if not fine
    ]
