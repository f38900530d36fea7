"""The U-Net of pix2pix: halves an image down to a point and doubles it back, with a skip at every size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, initialize_normal
from gan_lab.networks.patchgan import BIASED, SLOPE, WIDEST, TranslatorNorm, norm_layer
from gan_lab.utils.errors import UserError

DROPPED = 3  # how many of the innermost doublings have dropout (Isola et al. 2017, section 6.1.1: CD512-CD512-CD512)


def deepest(height: int, width: int) -> int:
    """Count how often both sides can be halved.

    >>> deepest(28, 28), deepest(64, 64), deepest(256, 256), deepest(96, 64)
    (2, 6, 8, 5)
    """
    count = 0
    while height % 2 ** (count + 1) == width % 2 ** (count + 1) == 0:
        count += 1
    return count


class UNet(Network):
    """Sources [B, C', H, W] to images [B, C, H, W] in [-1, 1].

    Convolutions of stride 2 to ``width``, 2, 4, 8, 8 ... x width channels, ``depth`` of them (0: as many as the size
    allows), and as many transposed ones back; kernels are 4. What halving i makes is concatenated to what comes back to
    that size. ``norm`` acts everywhere but in the first and the last layer and at the innermost point, where a single
    pixel of a single image would be normalised to nothing. The three innermost doublings drop half of what they make
    (``dropout``): the generator's only noise, and none in evaluation mode. Any input whose sides are multiples of
    ``multiple`` is accepted.

    Raises UserError if the sides cannot be halved so often.

    Source: Isola et al. 2017 (arXiv 1611.07004), sections 3.2.1 and 6.1.1; the innermost layer as in its erratum.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        source_channels: int,
        width: int = 64,
        depth: int = 0,
        norm: TranslatorNorm = "batch",
        affine: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        most = deepest(height, breadth)
        depth = depth or most
        if not 1 <= depth <= most:
            raise UserError(
                f"a U-Net cannot halve images of {height} x {breadth} {max(depth, 1)} times: "
                f"{f'model.depth={most} at most' if most else 'choose an even data.size such as 28, 32 or 64'}"
            )
        self.multiple = self.least = 2**depth
        widths = [width * min(2**i, WIDEST) for i in range(depth)]

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, out in enumerate(widths):
            between = norm if 0 < i < depth - 1 else "none"
            convolution = nn.Conv2d(
                widths[i - 1] if i else source_channels, out, 4, 2, 1, bias=between in BIASED
            )
            before = [nn.LeakyReLU(SLOPE)] if i else []
            self.down.append(nn.Sequential(*before, convolution, *norm_layer(out, between, affine)))
        for i in reversed(range(depth)):
            into, innermost = (
                widths[i] * (1 if i == depth - 1 else 2),
                depth - 1 - i,
            )  # twice: the skip
            if i == 0:
                last = [nn.ConvTranspose2d(into, channels, 4, 2, 1), nn.Tanh()]
                self.up.append(nn.Sequential(nn.ReLU(), *last))
                break
            out = widths[i - 1]
            transposed = nn.ConvTranspose2d(into, out, 4, 2, 1, bias=norm in BIASED)
            dropout_layers = [nn.Dropout(dropout)] if innermost < DROPPED and dropout else []
            self.up.append(
                nn.Sequential(
                    nn.ReLU(), transposed, *norm_layer(out, norm, affine), *dropout_layers
                )
            )
        initialize_normal(self)

    def forward(self, sources: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = sources
        for down in self.down:
            x = down(x)
            skips.append(x)
        for i, up in enumerate(self.up):
            x = up(x if i == 0 else torch.cat([x, skips[-1 - i]], dim=1))
        return x
