"""Gradient accumulation: a batch goes through the networks in parts, and the weights move as if it had gone at once.

A step has several updates, each at weights that the one before has moved, so the parts cannot go through whole steps one
after the other. They take turns: each part goes through the family's own ``step`` up to its ``minimize``, the
last one moves the weights there, and all go on. To the family a part is what a process is: it draws its rows of the
global batch's random numbers, and the buffers of networks (batch norm, spectral norm) and torch's own random numbers
are its own until the step ends, when the first part's are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from gan_lab.distributed.lightning_internals import flags_before_toggling, set_flags_before_toggling
from gan_lab.families.base import Family
from gan_lab.images import Batch
from gan_lab.networks.image_pool import ImagePool

Step = Callable[[Batch], None]


def accumulate(family: Family, parts: int) -> None:
    """Let the family's step take each batch in so many parts."""
    if parts > 1:
        family.parts = parts
        family.step = partial(_in_turns, family, family.step)  # type: ignore[method-assign]


def _in_turns(family: Family, step: Step, batch: Batch) -> None:
    turns = [greenlet(lambda _, part=part: step(part)) for part in batch.chunk(family.parts)]
    states, brought = (
        [_State.seeded(family, part) for part in range(family.parts)],
        [None] * family.parts,
    )
    family.end_turn = _end_turn
    while not all(turn.dead for turn in turns):
        shared = [*brought]
        for part, turn in enumerate(turns):
            family.part = part
            states[part].restore(family)
            brought[part] = turn.switch(shared)  # until it ends its turn, or the step
            states[part] = _State(family)
            torch.clear_autocast_cache()  # which knows nothing of parts
    family.part, family.end_turn = 0, None
    states[0].restore(family)


def _end_turn(brought: Any) -> list[Any]:
    shared: list[Any] = getcurrent().parent.switch(brought)
    return shared


class _State:
    """The state that a part has for itself: buffers, torch's generators, and for which weights gradients are taken."""

    def __init__(self, family: Family, copied: bool = False) -> None:
        self.buffers = [
            (module, name, buffer.clone() if copied else buffer)
            for module in family.modules()
            if not isinstance(module, ImagePool)  # all parts fill these, one after the other
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self.flags = [(weight, weight.requires_grad) for weight in family.parameters()]
        self.before_toggling = flags_before_toggling(family)
        self.generators = [torch.get_rng_state()]
        if family.device.type == "cuda":
            self.generators.append(torch.cuda.get_rng_state(family.device))

    @classmethod
    def seeded(cls, family: Family, part: int) -> _State:
        """The state in which a part begins its step: the first with the networks' own buffers."""
        family.part = part
        family.seed_networks()
        return cls(family, copied=part > 0)

    def restore(self, family: Family) -> None:
        """Put it back: of buffers the tensors themselves, since a backward to come may need those of its own forward."""
        for module, name, buffer in self.buffers:
            setattr(module, name, buffer)
        for weight, flag in self.flags:
            weight.requires_grad = flag
        set_flags_before_toggling(family, self.before_toggling)
        torch.set_rng_state(self.generators[0])
        if family.device.type == "cuda":
            torch.cuda.set_rng_state(self.generators[1], family.device)
