"""The modern ConvNets of R3GAN (Huang et al. 2024, arXiv 2501.05441).

Image sizes: see ``num_downsamples``. There is no normalization: each residual block is initialized
as the identity. Activations are only inside residual branches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab.networks.dcgan import num_downsamples
from gan_lab.networks.layers import Network, one_hot, projection_logits, upsample_bilinear

# negative slope of LeakyReLU (Huang et al. 2024, section 3)
NEGATIVE_SLOPE = 0.2
# ratio of a block's inner to its outer channels (inverted bottleneck)
EXPANSION_RATIO = 2
# channels per group of the 3 x 3 convolution; if it does not divide them, the greatest common
# divisor
GROUP_CHANNELS = 16


class ConvNetGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A learned basis at the lowest resolution, whose channels are scaled by a linear function of the
    latents; ``blocks`` residual blocks per resolution, with a 1 x 1 convolution and bilinear
    upsampling between resolutions; a 1 x 1 convolution and tanh. The highest resolution has
    ``width`` channels; each lower one doubles them. Labels are embedded in ``z_dim`` dimensions and
    concatenated to the latents.

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
        widest = width * 2**count
        self.basis = nn.Parameter(torch.randn(widest, height >> count, breadth >> count))
        self.project = nn.Linear(2 * z_dim if classes else z_dim, widest, bias=False)
        layers: list[nn.Module] = [Block(widest) for _ in range(blocks)]
        for i in reversed(range(count)):
            # the 1 x 1 convolution commutes with upsampling, and is cheaper before it
            layers += [nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 1, bias=False), Upsample()]
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
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to logits [B]: ψ(h) + yᵀVh.

    Mirrors ``ConvNetGenerator``: h is the inner product of each channel at the lowest resolution
    with a learned basis. ψ has no bias, since the relativistic loss depends only on differences.

    Source: Huang et al. 2024, section 3 and appendix; labels as in Miyato & Koyama 2018
    (arXiv 1802.05637), section 3.
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
        widest = width * 2**count
        rows, columns = height >> count, breadth >> count
        self.basis = nn.Parameter(torch.randn(widest, rows, columns) / math.sqrt(rows * columns))
        self.judge = nn.Linear(widest, 1, bias=False)
        self.embedding = nn.Linear(classes, widest, bias=False) if classes else None
        initialize_fixup(self)
        if self.embedding is not None:
            # the same scale as ψ
            nn.init.normal_(self.embedding.weight, std=widest**-0.5)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the input of the last dense layer, [B, F], from images [B, C, H, W]."""
        maps: Tensor = self.layers(x)
        return (maps * self.basis).sum(dim=(2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return projection_logits(self.features(x), self.judge, self.embedding, y)


class Block(nn.Module):
    """Residual block with an inverted bottleneck.

    x plus: 1 x 1 convolution, LeakyReLU, grouped 3 x 3 convolution, LeakyReLU, 1 x 1 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = EXPANSION_RATIO * channels
        self.expand = nn.Conv2d(channels, inner, 1)
        groups = inner // math.gcd(GROUP_CHANNELS, inner)
        self.mix = nn.Conv2d(inner, inner, 3, 1, 1, groups=groups)
        self.contract = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.leaky_relu(self.expand(x), NEGATIVE_SLOPE)
        return x + self.contract(functional.leaky_relu(self.mix(h), NEGATIVE_SLOPE))


class Upsample(nn.Module):
    """Bilinear upsampling by 2."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample_bilinear(x)


@torch.no_grad()
def initialize_fixup(network: nn.Module) -> None:
    """Apply Fixup initialization to a network of L residual blocks.

    Each block is initialized as the identity: its last convolution is 0, the other two have He
    initialization times L^-¼. Other layers preserve variance; biases are 0.

    Source: Zhang, Dauphin, Ma 2019 (arXiv 1901.09321), section 3, with m = 3 layers per branch;
    Huang et al. 2024.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in blocks:
        for convolution in (block.expand, block.mix):
            nn.init.kaiming_normal_(convolution.weight, NEGATIVE_SLOPE)
            convolution.weight.mul_(len(blocks) ** -0.25)
        nn.init.zeros_(block.contract.weight)
