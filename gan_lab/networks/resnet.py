"""Residual networks with spectral normalisation (Miyato et al. 2018, arXiv 1802.05957), for the sizes of
``num_downsamples``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from gan_lab.networks.dcgan import num_downsamples
from gan_lab.networks.layers import Network, Norm, one_hot, projection_logits
from gan_lab.utils.errors import UserError


class ResNetGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A dense layer to the smallest map, then one residual block for each doubling, then norm, ReLU, convolution and tanh.
    The last block has ``width`` channels, and each map before it ``growth`` times as many. ``norm`` is "batch" or
    "none"; with labels each class has a scale and a shift of its own, with and without batch norm.

    Source: Miyato et al. 2018, appendix B.4, table 4; labels as Dumoulin et al. 2017 (arXiv 1610.07629) and
    de Vries et al. 2017 (arXiv 1707.00683), which Miyato & Koyama 2018 (arXiv 1802.05637), section 5, take up.
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
        self.smallest = (width * growth**count, height >> count, breadth >> count)
        deep, low, narrow = self.smallest
        self.project = nn.Linear(z_dim, deep * low * narrow)
        self.blocks = nn.ModuleList(
            UpBlock(width * growth ** (i + 1), width * growth**i, classes, norm)
            for i in reversed(range(count))
        )
        self.last_norm = ClassNorm(width, classes, norm)
        self.last = nn.Conv2d(width, channels, 3, 1, 1)
        initialize_residual(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        hot = one_hot(y, self.classes, like=z) if self.classes else None
        deep, low, narrow = self.smallest
        x: Tensor = self.project(z).view(-1, low, narrow, deep).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x, hot)
        return self.last(functional.relu(self.last_norm(x, hot))).tanh()


class ResNetDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to one logit per image, [B]: ψ(h) + yᵀVh.

    One residual block for each halving, the first to ``width`` channels and each next to ``growth`` times as many,
    ``last_blocks`` more at the smallest size, ReLU, and h the sum over places. ``halvings`` of 0 means down to a map of
    4 to 7 places a side. Spectral norm on every layer, the embedding V too; a critic without (``spectral`` false) takes
    the mean over places, as Gulrajani et al. 2017 do.

    Source: Miyato et al. 2018, appendix B.4, tables 4 and 5, with the blocks of the authors' code; labels as Miyato &
    Koyama 2018, section 3.
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
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        most = num_downsamples(height, breadth)
        count = halvings or most
        if count > most:
            raise UserError(
                f"images of {height} x {breadth} can be halved {most} times, not {count} (model.halvings)"
            )
        self.classes, self.spectral = classes, spectral
        widths = [
            channels,
            *(width * growth**i for i in range(count)),
            *[width * growth**count] * last_blocks,
        ]
        self.blocks = nn.Sequential(
            *(
                DownBlock(into, out, first=i == 0, halve=i < count)
                for i, (into, out) in enumerate(itertools.pairwise(widths))
            ),
            nn.ReLU(),
        )
        self.judge = nn.Linear(widths[-1], 1)
        self.embedding = nn.Linear(classes, widths[-1], bias=False) if classes else None
        initialize_residual(self)
        for layer in list(self.modules()) if spectral else ():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                spectral_norm(layer)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features that the last dense layer reads of images [B, C, H, W]: [B, F]."""
        maps: Tensor = self.blocks(x)
        return maps.sum(dim=(2, 3)) if self.spectral else maps.mean(dim=(2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return projection_logits(self.features(x), self.judge, self.embedding, y)


class ClassNorm(nn.Module):
    """Batch norm, if ``norm`` is "batch", whose scale and shift are those of the class of each image, if it has classes."""

    def __init__(self, channels: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.norm = (
            nn.BatchNorm2d(channels, affine=classes == 0) if norm == "batch" else nn.Identity()
        )
        self.scale = nn.Linear(classes, channels, bias=False) if classes else None
        self.shift = nn.Linear(classes, channels, bias=False) if classes else None

    def forward(self, x: Tensor, hot: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.scale is None or self.shift is None:
            return x
        return torch.addcmul(
            self.shift(hot)[:, :, None, None], x, 1 + self.scale(hot)[:, :, None, None]
        )


class UpBlock(nn.Module):
    """Norm, ReLU, doubled size, convolution, norm, ReLU, convolution; beside it the doubled input, convolved 1 x 1."""

    def __init__(self, into: int, out: int, classes: int, norm: Norm) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = ClassNorm(into, classes, norm), ClassNorm(out, classes, norm)
        self.conv_1, self.conv_2 = nn.Conv2d(into, out, 3, 1, 1), nn.Conv2d(out, out, 3, 1, 1)
        self.shortcut = nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, hot: Tensor | None) -> Tensor:
        h = functional.interpolate(functional.relu(self.norm_1(x, hot)), scale_factor=2.0)
        h = self.conv_2(functional.relu(self.norm_2(self.conv_1(h), hot)))
        # the 1 x 1 convolution before the doubling: the same values for a quarter of the work
        return h + functional.interpolate(self.shortcut(x), scale_factor=2.0)


class DownBlock(nn.Module):
    """ReLU (but not on images), convolution, ReLU, convolution, mean of 2 x 2 if ``halve``; beside it the input, likewise.

    The channels change in the second convolution, on images in the first; where neither they nor the size change, the
    input is added as it is.
    """

    def __init__(self, into: int, out: int, *, first: bool, halve: bool) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        inside = out if first else into
        self.conv_1, self.conv_2 = nn.Conv2d(into, inside, 3, 1, 1), nn.Conv2d(inside, out, 3, 1, 1)
        self.shortcut = nn.Conv2d(into, out, 1) if halve or into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_2(functional.relu(self.conv_1(x if self.first else functional.relu(x))))
        if self.halve:  # the mean and a 1 x 1 convolution may change places
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        shortcut: Tensor = self.shortcut(x)
        return h + shortcut


@torch.no_grad()
def initialize_residual(network: nn.Module) -> None:
    """Weights uniform after Glorot & Bengio 2010, √2 times that in convolutions before a ReLU; no class differs yet."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if "conv_" in name else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if name.endswith((".scale", ".shift")):
            nn.init.zeros_(layer.weight)
