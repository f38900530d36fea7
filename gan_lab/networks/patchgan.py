"""PatchGAN discriminator: fully convolutional, with one logit per overlapping image patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, initialize_normal
from gan_lab.utils.errors import UserError

# negative slope of LeakyReLU (Isola et al. 2017, section 6.1)
NEGATIVE_SLOPE = 0.2
# layers have up to 8 x width channels
MAX_WIDTH_FACTOR = 8

TranslatorNorm = Literal["batch", "instance", "layer", "none"]
# batch and instance norm subtract the channel mean, which makes a bias before them redundant
NORMS_WITH_BIAS = ("layer", "none")


def norm_layer(channels: int, norm: TranslatorNorm, affine: bool = False) -> list[nn.Module]:
    """Return the normalization layer after a convolution; none for "none".

    Instance norm normalizes each channel of each image, which removes brightness and color; layer
    norm normalizes all channels jointly, which preserves both.

    Args:
        channels: Channels of the convolution's output.
        norm: Kind of normalization.
        affine: Give instance norm a learned scale and shift, as batch norm has.
    """
    if norm == "none":
        return []
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.InstanceNorm2d(channels, affine=affine)]


class PatchDiscriminator(Network):
    """Images [B, C, H, W] to one logit per patch, [B, 1, h, w].

    If ``source_channels`` > 0, sources [B, C', H, W] are concatenated to the images.

    ``layers`` convolutions of stride 2, the first with ``width`` channels and each following one
    with twice as many (up to 8 x width), then two of stride 1; all kernels are 4 x 4. The receptive
    field of a logit is 70 x 70 pixels with 3 layers, 34 with 2, 16 with 1. The first and the last
    convolution have no ``norm``.

    Raises:
        UserError: The images are smaller than 3 x 2^layers.

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
                f"Image size {height} x {breadth} is too small for a patch discriminator with "
                f"{layers} strided layers. Reduce model.layers or set data.size to "
                f"{3 * 2**layers} or more"
            )
        self.conditional = source_channels > 0
        stack: list[nn.Module] = [
            nn.Conv2d(channels + source_channels, width, 4, 2, 1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        ]
        before = width
        for i in range(1, layers + 1):
            after = width * min(2**i, MAX_WIDTH_FACTOR)
            stride = 2 if i < layers else 1
            stack += [
                nn.Conv2d(before, after, 4, stride, 1, bias=norm in NORMS_WITH_BIAS),
                *norm_layer(after, norm, affine),
                nn.LeakyReLU(NEGATIVE_SLOPE),
            ]
            before = after
        self.stack = nn.Sequential(*stack, nn.Conv2d(before, 1, 4, 1, 1))
        initialize_normal(self)

    def forward(self, images: Tensor, sources: Tensor | None = None) -> Tensor:
        if self.conditional:
            if sources is None:
                raise UserError(
                    "This discriminator is conditional on source images. Pass sources [B, C', H, W]"
                )
            images = torch.cat([sources, images], dim=1)
        logits: Tensor = self.stack(images)
        return logits
