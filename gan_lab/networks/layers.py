"""Shared parts of the networks: base class, deterministic layers, and weight initialization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

Norm = Literal["batch", "layer", "none"]


class Network(nn.Module):
    """Base class that records the constructor arguments, so that checkpoints can rebuild networks.

    ``recipe`` is plain data: the class name and the arguments, which are keyword-only.
    """

    recipe: dict[str, Any]
    # number of codes in a generator's latents (InfoGAN)
    codes: int = 0
    # whether a generator normalizes its latents: their length has no effect, and truncation needs w
    normalizes_latents: ClassVar[bool] = False
    # floating-point buffers that EMA copies instead of averaging, because they are averages already
    copied_buffers: ClassVar[tuple[str, ...]] = ()
    # all subclasses by name
    registry: ClassVar[dict[str, type[Network]]] = {}

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
        """Sample n latents [n, z_dim] from the generator's prior, N(0, I).

        A generator with another prior overrides this. Device and dtype are those of ``like``.
        """
        return stream.normal(n, self.recipe["arguments"]["z_dim"], like=like)

    def convert_colors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights for color images to gray images, or the reverse, for a warm start.

        Args:
            state: Weights of a network that differs from this one at most in its image channels.

        Returns:
            The weights, with the image channels of this network if it can convert them.
        """
        return dict(state)


class ReflectConv2d(nn.Conv2d):
    """Convolution with reflection padding that preserves the size."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(
            reflect_pad(input, self.kernel_size[0] // 2), self.weight, self.bias
        )


class GrayConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that trains faster on a CPU if its output is a gray image.

    oneDNN uses little of a CPU if there is one output channel: a product and ``fold`` take a fifth
    of the time forward, and two thirds with the gradients. Results differ by rounding errors.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.size = kernel, stride, padding

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.out_channels > 1 or not _trains_on_cpu(self, input):
            return super().forward(input, output_size)
        kernel, stride, padding = self.size
        height, width = ((n - 1) * stride - 2 * padding + kernel for n in input.shape[2:])
        patches = self.weight.flatten(1).t() @ input.flatten(2)
        image = functional.fold(patches, (height, width), kernel, padding=padding, stride=stride)
        assert self.bias is not None
        return image + self.bias.view(-1, 1, 1)


class GrayConv2d(nn.Conv2d):
    """A convolution that trains faster on a CPU if its input is a gray image with a gradient.

    The gradient of one input channel, which a generator's step needs, takes half of the time as
    ``fold`` and a product. Results differ by rounding errors.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.size = kernel, stride, padding

    def forward(self, input: Tensor) -> Tensor:
        if self.in_channels > 1 or not input.requires_grad or not _trains_on_cpu(self, input):
            return super().forward(input)
        kernel, stride, padding = self.size
        height, width = ((n + 2 * padding - kernel) // stride + 1 for n in input.shape[2:])
        patches = functional.unfold(input, kernel, padding=padding, stride=stride)
        # channels last
        maps = functional.linear(patches.transpose(1, 2), self.weight.flatten(1), self.bias)
        return maps.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _trains_on_cpu(layer: nn.Module, input: Tensor) -> bool:
    """Return whether a layer trains in full precision on a CPU; graphs are made in eval mode."""
    return layer.training and input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def reflect_pad(x: Tensor, n: int) -> Tensor:
    """Pad images by reflection to [B, C, H + 2n, W + 2n], with a deterministic gradient.

    The CUDA backward of torch's reflection padding is nondeterministic.
    """
    if x.device.type == "cpu":
        return functional.pad(x, (n, n, n, n), mode="reflect")
    return _reflect_pad(x, n)


def _reflect_pad(x: Tensor, n: int) -> Tensor:
    for dim in (2, 3):
        end = x.shape[dim] - 1 - n
        x = torch.cat([x.narrow(dim, 1, n).flip(dim), x, x.narrow(dim, end, n).flip(dim)], dim)
    return x


def upsample_bilinear(x: Tensor) -> Tensor:
    """Upsample images [B, C, H, W] bilinearly by 2, with a deterministic gradient.

    The CUDA backward of torch's bilinear interpolation is nondeterministic.
    """
    if x.device.type == "cpu":
        return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return _upsample_bilinear(x)


def _upsample_bilinear(x: Tensor) -> Tensor:
    for dim in (2, 3):
        n = x.shape[dim]
        padded = torch.cat([x.narrow(dim, 0, 1), x, x.narrow(dim, n - 1, 1)], dim)
        previous = 0.75 * x + 0.25 * padded.narrow(dim, 0, n)
        following = 0.75 * x + 0.25 * padded.narrow(dim, 2, n)
        # interleave
        x = torch.stack([previous, following], dim + 1).flatten(dim, dim + 1)
    return x


def dropout_layers(probability: float) -> list[nn.Module]:
    """Return a dropout layer; none if the probability is 0."""
    return [nn.Dropout(probability)] if probability else []


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """Convert labels [B] to one-hot vectors [B, classes] with the dtype of ``like``.

    Class weights [B, classes] are passed through.

    Raises:
        UserError: There are no labels.
    """
    if labels is None:
        raise UserError(f"This network is conditional on {classes} classes. Pass labels [B]")
    vectors = labels if labels.dim() == 2 else functional.one_hot(labels, classes)
    return vectors.to(like.dtype)


def projection_logits(
    h: Tensor, judge: nn.Module, embedding: nn.Linear | None = None, labels: Tensor | None = None
) -> Tensor:
    """Compute the logits ψ(h) + yᵀVh of a projection discriminator.

    Args:
        h: Features [B, F].
        judge: ψ, a dense layer with one output.
        embedding: V, a dense layer from classes to features; None: unconditional, ψ(h).
        labels: Labels [B], if there is an embedding.

    Returns:
        Logits [B].

    Raises:
        UserError: There is an embedding but no labels.

    Source: Miyato & Koyama 2018 (arXiv 1802.05637), section 3.
    """
    logits: Tensor = judge(h).squeeze(1)
    if embedding is not None:
        logits = logits + (h * embedding(one_hot(labels, embedding.in_features, like=h))).sum(dim=1)
    return logits


@torch.no_grad()
def initialize_normal(module: nn.Module, std: float = 0.02) -> None:
    """Initialize weights with N(0, std²), scales of batch and instance norm with N(1, std²).

    Biases are 0.

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
