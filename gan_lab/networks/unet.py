"""pix2pix's U-Net: encoder and decoder with a skip connection at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import (
    GrayConvTranspose2d,
    Network,
    dropout_layers,
    initialize_normal,
)
from gan_lab.networks.patchgan import (
    MAX_WIDTH_FACTOR,
    NEGATIVE_SLOPE,
    NORMS_WITH_BIAS,
    TranslatorNorm,
    norm_layer,
)
from gan_lab.utils.errors import UserError

# innermost decoder layers with dropout (Isola et al. 2017, section 6.1.1: CD512-CD512-CD512)
NUM_DROPOUT_LAYERS = 3


def max_halvings(height: int, width: int) -> int:
    """Return how often both sides can be halved.

    >>> max_halvings(28, 28), max_halvings(64, 64), max_halvings(256, 256), max_halvings(96, 64)
    (2, 6, 8, 5)
    """
    count = 0
    while height % 2 ** (count + 1) == width % 2 ** (count + 1) == 0:
        count += 1
    return count


class UNet(Network):
    """Sources [B, C', H, W] to images [B, C, H, W] in [-1, 1].

    The encoder has ``depth`` convolutions of stride 2 (0: as many as the image size allows) with
    1, 2, 4, 8, 8, ... x ``width`` channels; the decoder has as many transposed convolutions. All
    kernels are 4 x 4. Each encoder output is concatenated to the decoder's input of the same size.
    The first and last layer have no ``norm``, nor has the bottleneck, where instance norm of a
    single pixel would output zero. The three innermost decoder layers have ``dropout``, the
    generator's only noise, which eval mode disables. Height and width of inputs must be multiples
    of ``multiple``.

    With ``output`` "residual", the network predicts the difference from the sources. With "fill",
    the last channel of the sources is a mask, 1 in a hole and -1 elsewhere, the hole is 0, and the
    network predicts the hole: all other pixels are those of the sources.

    Raises:
        UserError: The sides of ``shape`` cannot be halved ``depth`` times, or ``output`` does not
            apply to such sources.

    Source: Isola et al. 2017 (arXiv 1611.07004), sections 3.2.1 and 6.1.1; the bottleneck as in the
    paper's erratum.
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
        output: Literal["image", "residual", "fill"] = "image",
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        _check_output(output, channels, source_channels)
        self.output = output
        self.channels = channels
        max_depth = max_halvings(height, breadth)
        depth = depth or max_depth
        if not 1 <= depth <= max_depth:
            remedy = "Choose an even data.size such as 28, 32 or 64"
            if max_depth:
                remedy = f"Set model.depth={max_depth} or less"
            raise UserError(
                f"The U-Net cannot halve images of {height} x {breadth} {max(depth, 1)} times. "
                f"{remedy}"
            )
        self.multiple = self.min_side = 2**depth
        widths = [width * min(2**i, MAX_WIDTH_FACTOR) for i in range(depth)]

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, after in enumerate(widths):
            before = widths[i - 1] if i else source_channels
            layer_norm = norm if 0 < i < depth - 1 else "none"
            bias = layer_norm in NORMS_WITH_BIAS
            activation = [nn.LeakyReLU(NEGATIVE_SLOPE)] if i else []
            convolution = nn.Conv2d(before, after, 4, 2, 1, bias=bias)
            norms = norm_layer(after, layer_norm, affine)
            self.down.append(nn.Sequential(*activation, convolution, *norms))
        for i in reversed(range(depth)):
            # all but the bottleneck's output have a skip connection, which doubles the channels
            before = widths[i] if i == depth - 1 else 2 * widths[i]
            if i == 0:
                last = GrayConvTranspose2d(before, channels, 4, 2, 1)
                self.up.append(nn.Sequential(nn.ReLU(), last, nn.Tanh()))
                break
            after = widths[i - 1]
            transposed = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm in NORMS_WITH_BIAS)
            is_innermost = depth - 1 - i < NUM_DROPOUT_LAYERS
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    transposed,
                    *norm_layer(after, norm, affine),
                    *dropout_layers(dropout if is_innermost else 0.0),
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
        if self.output == "residual":
            restored = sources + x
            # in training, a clamp would stop the gradient of pixels beyond black and white
            return restored if self.training else restored.clamp(-1, 1)
        if self.output == "fill":
            is_hole = 0.5 * sources[:, self.channels :] + 0.5
            return sources[:, : self.channels] + is_hole * x
        return x


def _check_output(output: str, channels: int, source_channels: int) -> None:
    """Raise UserError if an output does not apply to sources of this number of channels."""
    if output == "residual" and source_channels != channels:
        raise UserError(
            f"model.output=residual adds to the input, which has {source_channels} channels, while "
            f"images have {channels}. Set data.degradation=downsample or noise, or "
            "model.output=image"
        )
    if output == "fill" and source_channels != channels + 1:
        raise UserError(
            "model.output=fill needs inputs with a mask. Set data.degradation=mask, or "
            "model.output=image"
        )
