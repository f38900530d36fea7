"""Networks: plain arguments in, tensors in and out; no network knows of a config, a family or Lightning."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any, Literal

from gan_lab.networks.dcgan import SLOPE, DCGANDiscriminator, DCGANGenerator
from gan_lab.networks.layers import Network, Norm
from gan_lab.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lab.utils.errors import UserError

Architecture = Literal["mlp", "dcgan"]
Shape = Sequence[int]  # (channels, height, width)


def generator(
    kind: Architecture, *, z_dim: int, shape: Shape, width: int, norm: Norm, classes: int = 0
) -> Network:
    """Make the generator of a kind: latents [B, z_dim], and labels [B] if it has classes, to images of ``shape``."""
    if kind == "mlp":
        return MLPGenerator(z_dim=z_dim, shape=shape, classes=classes, width=width, norm=norm)
    return DCGANGenerator(z_dim=z_dim, shape=shape, classes=classes, width=width, norm=norm)


def discriminator(
    kind: Architecture,
    *,
    shape: Shape,
    width: int,
    norm: Norm,
    classes: int = 0,
    dropout: float = 0.0,
    slope: float = SLOPE,
) -> Network:
    """Make the discriminator or critic of a kind: images, and labels [B] if it has classes, to logits [B]."""
    if kind == "mlp":
        return MLPDiscriminator(
            shape=shape, classes=classes, width=width, norm=norm, dropout=dropout, slope=slope
        )
    return DCGANDiscriminator(
        shape=shape, classes=classes, width=width, norm=norm, dropout=dropout, slope=slope
    )


def from_recipe(recipe: dict[str, Any]) -> Network:
    """Make a network from the ``recipe`` that a ``Network`` carries and a checkpoint stores.

    Raises UserError if the recipe names something else than a network of this package.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if recipe.get("network") not in Network.registry:
        raise UserError(f"the recipe names no network of this package: {recipe.get('network')!r}")
    return Network.registry[recipe["network"]](**recipe["arguments"])
