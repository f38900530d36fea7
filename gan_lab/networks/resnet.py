"""ResNets of SNGAN (Miyato et al. 2018, arXiv 1802.05957).

Image sizes: see ``num_downsamples``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from gan_lab.networks.dcgan import num_downsamples
from gan_lab.networks.layers import Network, Norm, one_hot, projection_logits
from gan_lab.utils.errors import UserError


class ResNetGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A dense layer to the lowest resolution, one upsampling residual block per doubling, then norm,
    ReLU, convolution and tanh. The last block has ``width`` channels; each block before it has
    ``growth`` times as many. ``norm`` is "batch" or "none"; with labels, scale and shift are
    class-conditional in both cases.

    Source: Miyato et al. 2018, appendix B.4, table 4; conditional batch norm as in Dumoulin et al.
    2017 (arXiv 1610.07629) and de Vries et al. 2017 (arXiv 1707.00683), used by Miyato & Koyama
    2018 (arXiv 1802.05637), section 5.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "batch",
        growth: int = 2,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        self.classes = classes
        # channels, height and width of the lowest resolution
        self.smallest = (width * growth**count, height >> count, breadth >> count)
        self.project = nn.Linear(z_dim, math.prod(self.smallest))
        self.blocks = nn.ModuleList(
            UpBlock(width * growth ** (i + 1), width * growth**i, classes, norm)
            for i in reversed(range(count))
        )
        self.last_norm = ClassNorm(width, classes, norm)
        self.last = nn.Conv2d(width, channels, 3, 1, 1)
        initialize_residual(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        labels = one_hot(y, self.classes, like=z) if self.classes else None
        channels, rows, columns = self.smallest
        # channels last
        x: Tensor = self.project(z).view(-1, rows, columns, channels).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x, labels)
        return self.last(functional.relu(self.last_norm(x, labels))).tanh()


class ResNetDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to logits [B]: ψ(h) + yᵀVh.

    One downsampling residual block per halving, the first with ``width`` channels and each
    following one with ``growth`` times as many; ``last_blocks`` blocks at the lowest resolution;
    ReLU; and sum pooling to h. ``halvings`` = 0 means down to 4 to 7 pixels. Every layer including
    V has spectral norm, unless ``spectral`` is False. ``pooling`` = "mean" is that of Gulrajani et
    al. 2017.

    Source: Miyato et al. 2018, appendix B.4, tables 4 and 5, with the blocks of the authors' code;
    labels as in Miyato & Koyama 2018, section 3.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        growth: int = 2,
        halvings: int = 0,
        last_blocks: int = 1,
        spectral: bool = True,
        pooling: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        max_halvings = num_downsamples(height, breadth)
        count = halvings or max_halvings
        if count > max_halvings:
            raise UserError(
                f"model.halvings={count} is too large for images of {height} x {breadth}. "
                f"Use up to {max_halvings}"
            )
        self.classes, self.pooling = classes, pooling
        widths = [channels, *(width * growth**i for i in range(count))]
        widths += [width * growth**count] * last_blocks
        blocks = [
            DownBlock(before, after, first=i == 0, halve=i < count)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        ]
        self.blocks = nn.Sequential(*blocks, nn.ReLU())
        self.judge = nn.Linear(widths[-1], 1)
        self.embedding = nn.Linear(classes, widths[-1], bias=False) if classes else None
        initialize_residual(self)
        if spectral:
            # a list, since spectral_norm adds modules
            for layer in list(self.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the input of the last dense layer, [B, F], from images [B, C, H, W]."""
        maps: Tensor = self.blocks(x)
        return maps.sum(dim=(2, 3)) if self.pooling == "sum" else maps.mean(dim=(2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return projection_logits(self.features(x), self.judge, self.embedding, y)


class ClassNorm(nn.Module):
    """Class-conditional batch norm.

    ``norm`` "none" has only the class-conditional scale and shift; 0 classes is plain batch norm.
    """

    def __init__(self, channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.norm = (
            nn.BatchNorm2d(channels, affine=classes == 0) if norm == "batch" else nn.Identity()
        )
        self.scale = nn.Linear(classes, channels, bias=False) if classes else None
        self.shift = nn.Linear(classes, channels, bias=False) if classes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.scale is None or self.shift is None:
            return x
        scale = self.scale(labels)[:, :, None, None]
        shift = self.shift(labels)[:, :, None, None]
        return torch.addcmul(shift, x, 1 + scale)


class UpBlock(nn.Module):
    """Upsampling residual block.

    Norm, ReLU, 2 x upsampling, convolution, norm, ReLU, convolution; the shortcut is upsampling and
    a 1 x 1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.norm_1 = ClassNorm(in_channels, classes, norm)
        self.norm_2 = ClassNorm(out_channels, classes, norm)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = functional.interpolate(functional.relu(self.norm_1(x, labels)), scale_factor=2.0)
        h = self.conv_2(functional.relu(self.norm_2(self.conv_1(h), labels)))
        # a 1 x 1 convolution commutes with upsampling, and costs a quarter before it
        return h + functional.interpolate(self.shortcut(x), scale_factor=2.0)


class DownBlock(nn.Module):
    """Residual block, downsampling if ``halve``.

    ReLU (except on images, ``first``), convolution, ReLU, convolution, 2 x 2 average pooling; the
    shortcut is a 1 x 1 convolution and average pooling, or the identity if neither channels nor
    size change. The second convolution changes the channels, in the first block the first one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, first: bool, halve: bool) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        inner = out_channels if first else in_channels
        self.conv_1 = nn.Conv2d(in_channels, inner, 3, 1, 1)
        self.conv_2 = nn.Conv2d(inner, out_channels, 3, 1, 1)
        self.shortcut: nn.Module = nn.Identity()
        if halve or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_2(functional.relu(self.conv_1(x if self.first else functional.relu(x))))
        if self.halve:
            # pooling commutes with the shortcut's 1 x 1 convolution, and makes it cheaper
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        shortcut: Tensor = self.shortcut(x)
        return h + shortcut


@torch.no_grad()
def initialize_residual(network: nn.Module) -> None:
    """Apply Xavier uniform initialization, with gain √2 in the convolutions of residual branches.

    Class-conditional scales and shifts are 0, so all classes start equal.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if "conv_" in name else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if name.endswith((".scale", ".shift")):
            nn.init.zeros_(layer.weight)
