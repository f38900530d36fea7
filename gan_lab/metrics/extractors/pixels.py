"""Means of blocks of pixels: features without any training, as a check on trained extractors.

A classifier's features ignore what does not change the class, such as slant or stroke width. These
features see every difference in brightness that is larger than a block.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from gan_lab.images import to_unit
from gan_lab.metrics.extractors.base import Extractor

# Blocks per side. On digits of 28 pixels a block has 4 x 4 of them.
BLOCKS_PER_SIDE = 7


class Pixels(Extractor):
    """The mean brightness, in [-1, 1], of each of 7 x 7 blocks; color channels are averaged."""

    name = "pixels"
    features = BLOCKS_PER_SIDE**2
    resize = f"block means, {BLOCKS_PER_SIDE} x {BLOCKS_PER_SIDE}"

    def __init__(self) -> None:
        self.network = nn.Identity()

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        brightness = to_unit(pixels).mean(dim=1, keepdim=True)
        return adaptive_avg_pool2d(brightness, BLOCKS_PER_SIDE).flatten(1), None


EXTRACTOR = Pixels
