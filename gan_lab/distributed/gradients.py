"""Detection of distributed training, and gradients averaged over ranks. Needs no Lightning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def is_distributed() -> bool:
    """Return whether this process is a rank of an initialized process group."""
    return distributed.is_available() and distributed.is_initialized()


@torch.no_grad()
def average_gradients(gradients: Sequence[Tensor]) -> None:
    """Replace gradients in place by their means over all ranks, in one all-reduce.

    Args:
        gradients: Equal in number, shape and order on every rank.
    """
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    means = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
