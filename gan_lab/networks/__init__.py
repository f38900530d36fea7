"""Networks: plain arguments and tensors, independent of config, families and Lightning."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any, Literal

from gan_lab.networks.dcgan import NEGATIVE_SLOPE, DCGANDiscriminator, DCGANGenerator
from gan_lab.networks.layers import Network, Norm
from gan_lab.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lab.utils.errors import UserError

Architecture = Literal["mlp", "dcgan"]
# (channels, height, width)
Shape = Sequence[int]


def generator(
    kind: Architecture, *, z_dim: int, shape: Shape, width: int, norm: Norm, classes: int = 0
) -> Network:
    """Build a generator: latents [B, z_dim] and, with classes, labels [B] to images."""
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
    slope: float = NEGATIVE_SLOPE,
    projection: bool = False,
) -> Network:
    """Build a discriminator or critic: images and, with classes, labels [B] to logits [B]."""
    network = MLPDiscriminator if kind == "mlp" else DCGANDiscriminator
    return network(
        shape=shape,
        classes=classes,
        width=width,
        norm=norm,
        dropout=dropout,
        slope=slope,
        projection=projection,
    )


def from_recipe(recipe: dict[str, Any]) -> Network:
    """Build a network from its ``recipe``, as stored in checkpoints.

    Raises:
        UserError: The recipe does not name a network of this package.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if recipe.get("network") not in Network.registry:
        raise UserError(
            f"The recipe does not name a network of this package: {recipe.get('network')!r}. "
            "Use a file that the lab has written."
        )
    return Network.registry[recipe["network"]](**recipe["arguments"])
