"""History buffer of generated images, so that a discriminator does not forget past fakes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """A buffer of up to ``size`` images of ``shape``; size 0 passes images through.

    It is stored in buffers, so checkpoints contain it.

    Source: Shrivastava et al. 2017 (arXiv 1612.07828), section 2.3, as used by Zhu et al. 2017
    (arXiv 1703.10593), section 4.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        # number of stored images
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fakes: Tensor, draws: Tensor) -> Tensor:
        """Return each fake itself or swap it for a stored one, image by image.

        Until the pool is full, each fake is stored and returned. Then, with probability 1/2, a
        random stored image is returned and replaced by the fake; otherwise the fake is returned
        and not stored.

        Args:
            fakes: Generated images [B, C, H, W].
            draws: Uniform random numbers in [0, 1), [B, 2]: a coin flip and a position.

        Returns:
            Images [B, C, H, W].
        """
        if self.size == 0:
            return fakes
        returned = []
        # tensor operations instead of Python conditions, to avoid synchronizing with the device
        for fake, (coin, position) in zip(fakes.to(self.images.dtype).split(1), draws, strict=True):
            is_full = self.count == self.size
            random_index = (position * self.size).long().clamp(max=self.size - 1)
            next_free = self.count.clamp(max=self.size - 1)
            index = torch.where(is_full, random_index, next_free)
            stored = self.images[index]
            swap = is_full & (coin < 0.5)
            returned.append(torch.where(swap, stored, fake))
            self.images[index] = torch.where(swap | ~is_full, fake, stored)
            self.count += (~is_full).long()
        return torch.cat(returned).to(fakes.dtype)
