"""Check that all processes of a training begin at the same place."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from torch import distributed

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.utils.errors import UserError


class RankConsistency(FamilyCallback):
    """Raises UserError on all ranks if one begins at another iteration, with other data or another budget than rank 0.

    Each reads them by itself: on another machine, from what may be another folder.
    """

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        if trainer.world_size == 1:
            return
        own_facts = {"iteration": family.iteration, **self.facts}
        ranks: list[Any] = [None] * trainer.world_size
        distributed.all_gather_object(ranks, own_facts)
        for rank, theirs in enumerate(ranks):
            for name, value in theirs.items():
                if value != ranks[0][name]:
                    raise UserError(
                        f"process {rank} would train with {name} {value}, process 0 with {ranks[0][name]}: run.root must be "
                        "one folder for all machines, and data.root the same data on each"
                    )
