"""Check that all ranks start with the same state."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from torch import distributed

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.utils.errors import UserError


class RankConsistency(FamilyCallback):
    """Checks that all ranks have the same iteration, data and budget as rank 0.

    Each rank reads the run folder and the data itself, on another machine possibly from other
    folders.
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
                if value == ranks[0][name]:
                    continue
                remedy = (
                    "run.root must be a folder shared by all machines, data.root the same data on "
                    "each"
                )
                if name == "iteration":
                    # only rank 0 holds the lock when it looks for the checkpoint
                    remedy += ". If another job of this run was still ending, repeat the command"
                raise UserError(
                    f"rank {rank} has {name} {value}, rank 0 has {ranks[0][name]}. {remedy}"
                )
