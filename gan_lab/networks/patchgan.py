"""A discriminator of patches: fully convolutional, one logit for each overlapping patch of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, initialize_normal
from gan_lab.utils.errors import UserError

SLOPE = 0.2  # of LeakyReLU below zero (Isola et al. 2017, section 6.1)
WIDEST = 8  # no layer has more than 8 x width channels

TranslatorNorm = Literal["batch", "instance", "layer", "none"]
BIASED = ("layer", "none")  # the other norms take a bias away again


def norm_layer(channels: int, norm: TranslatorNorm, affine: bool = False) -> list[nn.Module]:
    """Normalisation after a convolution: batch norm, instance norm, layer norm, or none.

    Instance norm has a learned scale and shift, as batch norm has, if ``affine``.

    Instance norm takes the mean and the spread of each channel of each image away, and with them how bright the image
    is and of what colour; layer norm takes those of all its channels together, which leaves both to be seen.
    """
    if norm == "none":
        return []
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    return [
        nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels, affine=affine)
    ]


class PatchDiscriminator(Network):
    """Images [B, C, H, W] and, if ``source_channels`` > 0, sources [B, C', H, W] to a logit for each patch, [B, 1, h, w].

    ``layers`` convolutions of stride 2, the first to ``width`` channels and each next to twice as many (8 x width at
    most), then two of stride 1; all kernels are 4. A logit sees 70 x 70 pixels with 3 layers, 34 with 2, 16 with 1.
    ``norm`` acts between them, not before the first nor after the last. The sources are concatenated to the images'
    channels.

    Raises UserError if the images are smaller than 3 x 2^layers.

    Source: Isola et al. 2017 (arXiv 1611.07004), sections 3.2.2 and 6.1.2.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        source_channels: int = 0,
        width: int = 64,
        layers: int = 3,
        norm: TranslatorNorm = "batch",
        affine: bool = False,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        if min(height, breadth) < 3 * 2**layers:
            raise UserError(
                f"images of {height} x {breadth} are too small for a patch discriminator with {layers} strided layers: "
                f"take fewer (model.layers) or data.size={3 * 2**layers} at least"
            )
        self.conditional = source_channels > 0
        stack: list[nn.Module] = [
            nn.Conv2d(channels + source_channels, width, 4, 2, 1),
            nn.LeakyReLU(SLOPE),
        ]
        into = width
        for i in range(1, layers + 1):
            out, stride = width * min(2**i, WIDEST), 2 if i < layers else 1
            stack += [
                nn.Conv2d(into, out, 4, stride, 1, bias=norm in BIASED),
                *norm_layer(out, norm, affine),
            ]
            stack.append(nn.LeakyReLU(SLOPE))
            into = out
        self.stack = nn.Sequential(*stack, nn.Conv2d(into, 1, 4, 1, 1))
        initialize_normal(self)

    def forward(self, images: Tensor, sources: Tensor | None = None) -> Tensor:
        if self.conditional:
            if sources is None:
                raise UserError(
                    "this discriminator judges images beside their sources: it needs sources [B, C', H, W]"
                )
            images = torch.cat([sources, images], dim=1)
        logits: Tensor = self.stack(images)
        return logits
