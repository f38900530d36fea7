"""The plain modern convolutional networks of R3GAN (Huang et al. 2024, arXiv 2501.05441), for the sizes of
``num_downsamples``.

No normalisation: every residual block begins as the identity. Activations stand only inside blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab.networks.dcgan import num_downsamples
from gan_lab.networks.layers import Network, one_hot, projection_logits, upsample_bilinear

SLOPE = 0.2  # of LeakyReLU below zero (Huang et al. 2024, section 3)
EXPANSION = 2  # channels inside a block over those between blocks
GROUP = 16  # channels of a group of the 3 x 3 convolution, or the largest divisor of both


class ConvNetGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A learned map at the smallest size, each channel scaled by a linear function of the latents; then ``blocks``
    residual blocks at each size, between sizes a 1 x 1 convolution and bilinear doubling; last a 1 x 1 convolution and
    tanh. The largest maps have ``width`` channels, each smaller one twice as many. A label is embedded in ``z_dim``
    dimensions and concatenated to the latents.

    Source: Huang et al. 2024, section 3 and appendix.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        self.classes = classes
        self.embedding = nn.Linear(classes, z_dim, bias=False) if classes else None
        deep = width * 2**count
        self.basis = nn.Parameter(torch.randn(deep, height >> count, breadth >> count))
        self.project = nn.Linear(2 * z_dim if classes else z_dim, deep, bias=False)
        layers: list[nn.Module] = [Block(deep) for _ in range(blocks)]
        for i in reversed(range(count)):
            # a 1 x 1 convolution and a doubling may change places, and this order is the cheaper one
            layers += [nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 1, bias=False), Double()]
            layers += [Block(width * 2**i) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 1), nn.Tanh())
        initialize_fixup(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(one_hot(y, self.classes, like=z))], dim=1)
        x = self.project(z)[:, :, None, None] * self.basis
        images: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return images


class ConvNetDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to one logit per image, [B]: ψ(h) + yᵀVh.

    The mirror image of ``ConvNetGenerator``: h is, for each channel of the smallest map, its scalar product with a
    learned map. ψ has no bias, since the relativistic loss knows only differences.

    Source: Huang et al. 2024, section 3 and appendix; labels as Miyato & Koyama 2018 (arXiv 1802.05637), section 3.
    """

    def __init__(
        self, *, shape: Sequence[int], classes: int = 0, width: int = 64, blocks: int = 2
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        self.classes = classes
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 1),
            *(Block(width) for _ in range(blocks)),
        ]
        for i in range(count):
            layers += [
                nn.AvgPool2d(2),
                nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 1, bias=False),
            ]
            layers += [Block(width * 2 ** (i + 1)) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        deep, low, narrow = width * 2**count, height >> count, breadth >> count
        self.basis = nn.Parameter(torch.randn(deep, low, narrow) / math.sqrt(low * narrow))
        self.judge = nn.Linear(deep, 1, bias=False)
        self.embedding = nn.Linear(classes, deep, bias=False) if classes else None
        initialize_fixup(self)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=deep**-0.5)  # as large as ψ's

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features that the last dense layer reads of images [B, C, H, W]: [B, F]."""
        maps: Tensor = self.layers(x)
        return (maps * self.basis).sum(dim=(2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return projection_logits(self.features(x), self.judge, self.embedding, y)


class Block(nn.Module):
    """x plus a branch that is wider inside: 1 x 1, LeakyReLU, grouped 3 x 3, LeakyReLU, 1 x 1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = EXPANSION * channels
        self.expand = nn.Conv2d(channels, wide, 1)
        self.mix = nn.Conv2d(wide, wide, 3, 1, 1, groups=wide // math.gcd(GROUP, wide))
        self.contract = nn.Conv2d(wide, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.leaky_relu(self.expand(x), SLOPE)
        return x + self.contract(functional.leaky_relu(self.mix(h), SLOPE))


class Double(nn.Module):
    """Twice the height and width, bilinear."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample_bilinear(x)


@torch.no_grad()
def initialize_fixup(network: nn.Module) -> None:
    """Blocks begin as the identity: last convolution 0, the two before after He, times L^-¼ for a network of L blocks.

    Other layers keep the variance of what they read; biases 0.

    Source: Zhang, Dauphin, Ma 2019 (arXiv 1901.09321), section 3, with m = 3 layers in a branch; Huang et al. 2024.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in blocks:
        for convolution in (block.expand, block.mix):
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            convolution.weight.mul_(len(blocks) ** -0.25)
        nn.init.zeros_(block.contract.weight)
