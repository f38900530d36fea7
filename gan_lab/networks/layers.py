"""Shared parts of the networks: the base class that remembers its arguments, and weight initialisation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

Norm = Literal["batch", "layer", "none"]


class Network(nn.Module):
    """A network that remembers how it was made, so that a checkpoint can rebuild it without its family.

    ``recipe`` is plain data: the class and the keyword arguments of the constructor, which takes nothing else.
    """

    recipe: dict[str, Any]
    codes: int = 0  # of a generator whose latents have named codes: how many
    registry: ClassVar[dict[str, type[Network]]] = {}  # every subclass by its name

    def __init_subclass__(cls) -> None:
        Network.registry[cls.__name__] = cls

    def __new__(cls, **arguments: Any) -> Self:
        network = super().__new__(cls)
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in arguments.items()
        }
        network.__dict__["recipe"] = {"network": cls.__name__, "arguments": plain}
        return network

    def sample_latents(self, stream: Stream, n: int, like: Tensor) -> Tensor:
        """Draw n latents [n, z_dim] from the generator's prior, N(0, I), on the device and in the floating type of ``like``.

        A generator with another prior overrides this: families and sampling draw from it alone.
        """
        return stream.normal(n, self.recipe["arguments"]["z_dim"], like=like)


class ReflectConv2d(nn.Conv2d):
    """A convolution that keeps the size: beyond the borders the image is reflected."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(
            reflect_pad(input, self.kernel_size[0] // 2), self.weight, self.bias
        )


def reflect_pad(x: Tensor, n: int) -> Tensor:
    """[B, C, H, W] with n reflected rows and columns on each side, [B, C, H + 2n, W + 2n].

    On a GPU the gradient of torch's own is added up in another order each time.
    """
    if x.device.type == "cpu":
        return functional.pad(x, (n, n, n, n), mode="reflect")
    return _reflected(x, n)


def _reflected(x: Tensor, n: int) -> Tensor:
    for side in (2, 3):
        end = x.shape[side] - 1 - n
        x = torch.cat([x.narrow(side, 1, n).flip(side), x, x.narrow(side, end, n).flip(side)], side)
    return x


def upsample_bilinear(x: Tensor) -> Tensor:
    """[B, C, H, W] at twice the height and width, bilinear. As ``reflect_pad`` of operations that give the same each time."""
    if x.device.type == "cpu":
        return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return _upsample_bilinear(x)


def _upsample_bilinear(x: Tensor) -> Tensor:
    for side in (2, 3):
        n = x.shape[side]
        edged = torch.cat([x.narrow(side, 0, 1), x, x.narrow(side, n - 1, 1)], side)
        before, after = edged.narrow(side, 0, n), edged.narrow(side, 2, n)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], side + 1).flatten(
            side, side + 1
        )
    return x


def dropout_layers(share: float) -> list[nn.Module]:
    """A dropout layer; none at all if it would drop nothing."""
    return [nn.Dropout(share)] if share else []


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """Labels [B] as one-hot rows [B, classes] of the type of ``like``; rows of weights [B, classes] as they are.

    Raises UserError if there are no labels.
    """
    if labels is None:
        raise UserError(f"this network is conditional on {classes} classes: it needs labels [B]")
    rows = labels if labels.dim() == 2 else functional.one_hot(labels, classes)
    return rows.to(like.dtype)


def projection_logits(
    h: Tensor, judge: nn.Linear, embedding: nn.Linear | None = None, labels: Tensor | None = None
) -> Tensor:
    """ψ(h) + yᵀVh of features h [B, F], [B]: ``judge`` is ψ, and the weight of ``embedding`` is V; without it ψ(h).

    Raises UserError if there is an embedding and no labels.

    Source: Miyato & Koyama 2018 (arXiv 1802.05637), section 3.
    """
    logits: Tensor = judge(h).squeeze(1)
    if embedding is not None:
        logits = logits + (h * embedding(one_hot(labels, embedding.in_features, like=h))).sum(dim=1)
    return logits


@torch.no_grad()
def initialize_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw weights from N(0, std²) and the scales of batch and instance norm from N(1, std²), biases 0.

    Source: Radford et al. 2015 (arXiv 1511.06434), section 4.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif (
            isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d) and layer.affine
        ):
            nn.init.normal_(layer.weight, 1.0, std)
            nn.init.zeros_(layer.bias)
