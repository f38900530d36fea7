"""Gradient accumulation: process a batch in micro-batches, with the same update as the full batch.

A GAN step has several optimizer updates, and each depends on the weights of the previous one. The
micro-batches therefore cannot run the step one after the other. They run as coroutines (greenlets):
each runs the family's ``step`` up to ``minimize`` and yields; the last one updates the weights, and
all resume.

Micro-batches behave like the ranks of a distributed training: each uses its rows of the random
numbers of the global batch, and its own network buffers (batch norm, spectral norm) and torch
generators. After the step, those of the first micro-batch are kept.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from gan_lab.distributed.lightning_internals import flags_before_toggling, set_flags_before_toggling
from gan_lab.families.base import Family, Step
from gan_lab.images import Batch
from gan_lab.networks.image_pool import ImagePool


def accumulate(family: Family, parts: int) -> None:
    """Let ``family.step`` process each batch in ``parts`` micro-batches."""
    if parts > 1:
        family.parts = parts
        family.wrap_step(lambda step: partial(_step_micro_batches, family, step))


def _step_micro_batches(family: Family, step: Step, batch: Batch) -> None:
    steps = [greenlet(lambda _, part=part: step(part)) for part in batch.chunk(family.parts)]
    states = [_MicroBatchState.create_seeded(family, part) for part in range(family.parts)]
    yielded = [None] * family.parts
    family.end_turn = _yield_value
    while not all(coroutine.dead for coroutine in steps):
        # Every micro-batch receives what all of them yielded in the previous round.
        received = [*yielded]
        for part, coroutine in enumerate(steps):
            family.part = part
            states[part].restore(family)
            # It runs until the micro-batch yields or completes the step.
            yielded[part] = coroutine.switch(received)
            states[part] = _MicroBatchState(family)
            # The cache contains weights that were cast for another micro-batch.
            torch.clear_autocast_cache()
    family.part = 0
    family.end_turn = None
    states[0].restore(family)


def _yield_value(value: Any) -> list[Any]:
    received: list[Any] = getcurrent().parent.switch(value)
    return received


class _MicroBatchState:
    """State of one micro-batch: network buffers, torch generators and ``requires_grad`` flags."""

    def __init__(self, family: Family, copied: bool = False) -> None:
        # all micro-batches fill the same image pools, one after the other
        self.buffers = [
            (module, name, buffer.clone() if copied else buffer)
            for module in family.modules()
            if not isinstance(module, ImagePool)
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self.flags = [(weight, weight.requires_grad) for weight in family.parameters()]
        self.before_toggling = flags_before_toggling(family)
        self.generators = [torch.get_rng_state()]
        if family.device.type == "cuda":
            self.generators.append(torch.cuda.get_rng_state(family.device))

    @classmethod
    def create_seeded(cls, family: Family, part: int) -> _MicroBatchState:
        """Create the initial state of a micro-batch; the first uses the buffers of the networks."""
        family.part = part
        family.seed_networks()
        return cls(family, copied=part > 0)

    def restore(self, family: Family) -> None:
        """Restore the state.

        Buffers are replaced rather than copied, since a later backward may need those of its
        forward.
        """
        for module, name, buffer in self.buffers:
            setattr(module, name, buffer)
        for weight, flag in self.flags:
            weight.requires_grad = flag
        set_flags_before_toggling(family, self.before_toggling)
        torch.set_rng_state(self.generators[0])
        if family.device.type == "cuda":
            torch.cuda.set_rng_state(self.generators[1], family.device)
