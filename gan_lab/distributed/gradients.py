"""Average gradients over the processes of a training."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace gradients by their means over all processes, in one message; every process must pass the same ones."""
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
