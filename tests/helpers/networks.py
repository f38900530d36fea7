"""The two pairs of networks with projection, small and in float64, and shared helpers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.networks.convnet import ConvNetDiscriminator, ConvNetGenerator
from gan_lab.networks.resnet import ResNetDiscriminator, ResNetGenerator


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def convnet_generator(**arguments: Any) -> ConvNetGenerator:
    torch.manual_seed(0)
    return ConvNetGenerator(
        **{"z_dim": 8, "shape": (1, 28, 28), "width": 4, "blocks": 1, **arguments}
    ).double()


def convnet_discriminator(**arguments: Any) -> ConvNetDiscriminator:
    torch.manual_seed(0)
    return ConvNetDiscriminator(
        **{"shape": (1, 28, 28), "width": 4, "blocks": 1, **arguments}
    ).double()


def resnet_generator(**arguments: Any) -> ResNetGenerator:
    torch.manual_seed(0)
    return ResNetGenerator(**{"z_dim": 8, "shape": (1, 28, 28), "width": 4, **arguments}).double()


def resnet_discriminator(**arguments: Any) -> ResNetDiscriminator:
    torch.manual_seed(0)
    return ResNetDiscriminator(**{"shape": (1, 28, 28), "width": 4, **arguments}).double()


def wake(network: nn.Module) -> None:
    """Weights as after some training: no block is the identity, and all classes differ."""
    torch.manual_seed(1)
    for weight in network.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
