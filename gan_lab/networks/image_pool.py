"""A history of generated images, so that a discriminator does not forget what the generator no longer makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Holds up to ``size`` images of ``shape`` (0: none, and images pass through). Buffers alone: it is part of the state.

    Source: Shrivastava et al. 2017 (arXiv 1612.07828), section 2.3, as used by Zhu et al. 2017 (arXiv 1703.10593),
    section 4.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer(
            "count", torch.zeros(1, dtype=torch.int64)
        )  # how many were put in, size at most

    @torch.no_grad()
    def forward(self, fakes: Tensor, draws: Tensor) -> Tensor:
        """For each fake [B, C, H, W] itself or an older one that it replaces, one after the other.

        While the pool is not full, a fake is stored and given back. Then, by ``draws`` [B, 2] uniform in [0, 1): if the
        first is below a half, the stored image at the place that the second chooses is given back and the fake takes
        its place; else the fake is given back and not stored. Nothing waits for the device.
        """
        if self.size == 0:
            return fakes
        returned = []
        for fake, (coin, place) in zip(fakes.to(self.images.dtype).split(1), draws, strict=True):
            full = self.count == self.size
            chosen = (place * self.size).long().clamp(max=self.size - 1)
            at = torch.where(full, chosen, self.count.clamp(max=self.size - 1))
            old, swap = self.images[at], full & (coin < 0.5)
            returned.append(torch.where(swap, old, fake))
            self.images[at] = torch.where(swap | ~full, fake, old)
            self.count += (~full).long()
        return torch.cat(returned).to(fakes.dtype)
