"""What a failing contract test says: which kind of fault makes two trainings differ."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MICRO_BATCHES = (
    "the update from micro-batches differs from that of the full batch: a term of the loss is not "
    "a mean over images (see mean_over_micro_batches), a layer or a statistic such as x.std() "
    "couples the images of a batch, or a draw does not come from self.stream"
)
PROCESSES = (
    "two processes differ from one: a draw does not come from self.stream, "
    "a statistic of the batch is computed per process (see mean_over_ranks), "
    "or a gradient bypasses self.minimize"
)
RESUMED = (
    "a killed and resumed run differs from an uninterrupted one: the family keeps state outside of "
    "its buffers, or draws from a generator that is not a function of (seed, iteration)"
)
GOLDEN = (
    "the numbers of the family have changed. If that is meant, write a new trace with GOLDEN=write "
    "make test ARGS=\"-k 'golden and NAME'\" and say why in the commit"
)
MOVED = (
    "a network moved in an iteration that is not its own, or did not move in one that is: "
    "see toggled_optimizer and n_critic"
)


def assert_close(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], fault: str, atol: float = 1e-9
) -> None:
    """Compare tensors by name; the message has the largest difference and the kind of fault."""
    assert actual.keys() == expected.keys(), (
        f"{sorted(actual.keys() ^ expected.keys())} are in one of the two: {fault}"
    )
    apart = {
        name: float((actual[name].double() - value.double()).abs().max()) if value.numel() else 0.0
        for name, value in expected.items()
        if not torch.allclose(actual[name], value, rtol=0, atol=atol)
    }
    worst = max(apart, key=apart.__getitem__, default="")
    assert not apart, (
        f"{len(apart)} of {len(expected)} tensors differ, most of all {worst} by "
        f"{apart.get(worst):.1e}: {fault}"
    )
