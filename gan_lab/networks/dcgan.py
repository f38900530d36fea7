"""Deep convolutional networks (Radford et al. 2015, arXiv 1511.06434), for any size that halves down to 4..7."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, Norm, dropout_layers, initialize_normal, one_hot
from gan_lab.utils.errors import UserError

SLOPE = 0.2  # of LeakyReLU below zero (Radford et al. 2015, section 4)


def num_downsamples(height: int, width: int) -> int:
    """Count the strided convolutions that bring both sides into 4..7.

    Raises UserError if there is no such number of at least one, the same for both sides.

    >>> num_downsamples(28, 28), num_downsamples(64, 64)
    (2, 4)
    """
    for count in range(1, 16):
        step = 2**count
        if (
            height % step == width % step == 0
            and 4 <= height // step <= 7
            and 4 <= width // step <= 7
        ):
            return count
    raise UserError(
        f"these networks cannot make images of {height} x {width}: halving both sides must end in 4..7, as for 28, 32 or 64"
    )


class DCGANGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A dense layer to the smallest map, then transposed convolutions of stride 2 with batch norm and ReLU, tanh last. The
    map before the image has ``width`` channels, and each map before it twice as many. Labels are concatenated to the
    latents as one-hot rows (Mirza & Osindero 2014, arXiv 1411.1784).

    Source: Radford et al. 2015, section 3 and figure 1. Kernels are 4 rather than 5, so that stride 2 divides them.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        self.classes = classes
        self.smallest = (width * 2 ** (count - 1), height >> count, breadth >> count)
        deep, low, narrow = self.smallest
        self.project = nn.Linear(z_dim + classes, deep * low * narrow, bias=norm == "none")

        layers = self._activate(deep, norm)
        for i in reversed(range(count - 1)):
            into, out = width * 2 ** (i + 1), width * 2**i
            layers += [
                nn.ConvTranspose2d(into, out, 4, 2, 1, bias=norm == "none"),
                *self._activate(out, norm),
            ]
        self.layers = nn.Sequential(
            *layers, nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()
        )
        initialize_normal(self)

    @staticmethod
    def _activate(channels: int, norm: Norm) -> list[nn.Module]:
        return [*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU()]

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.classes:
            z = torch.cat([z, one_hot(y, self.classes, like=z)], dim=1)
        deep, low, narrow = self.smallest
        images: Tensor = self.layers(
            self.project(z).view(-1, low, narrow, deep).permute(0, 3, 1, 2)
        )
        return images


class DCGANDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to one logit per image, [B], or to ``outputs`` > 1, [B,
    outputs].

    Convolutions of stride 2 with LeakyReLU, the first to ``width`` channels and each next to twice as many, then a
    dense layer. ``norm`` acts between them, not before the first nor after the last: "batch" as published, "layer" or
    "none" for critics whose gradient is penalised image by image. ``dropout`` follows each LeakyReLU, whose ``slope`` below
    zero can be 0: ReLU. A label is a learned plane beside the image's channels.

    Source: Radford et al. 2015, section 3; labels as Mirza & Osindero 2014, both networks see them.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "batch",
        outputs: int = 1,
        dropout: float = 0.0,
        slope: float = SLOPE,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        self.classes, self.outputs, self.plane = classes, outputs, (1, height, breadth)
        self.embedding = nn.Linear(classes, height * breadth, bias=False) if classes else None

        layers: list[nn.Module] = [
            nn.Conv2d(channels + (classes > 0), width, 4, 2, 1),
            nn.LeakyReLU(slope),
            *dropout_layers(dropout),
        ]
        for i in range(count - 1):
            into, out = width * 2**i, width * 2 ** (i + 1)
            layers.append(nn.Conv2d(into, out, 4, 2, 1, bias=norm != "batch"))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(out))
            elif norm == "layer":
                layers.append(nn.GroupNorm(1, out))
            layers += [nn.LeakyReLU(slope), *dropout_layers(dropout)]
        smallest = width * 2 ** (count - 1) * (height >> count) * (breadth >> count)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(smallest, outputs))
        initialize_normal(self)
        if self.embedding is not None:
            nn.init.normal_(
                self.embedding.weight
            )  # as large as the pixels, or the label goes unheard

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features that the last dense layer reads of images [B, C, H, W], and of labels [B] if it has classes: [B, F]."""
        if self.embedding is not None:
            plane = self.embedding(one_hot(y, self.classes, like=x)).view(-1, *self.plane)
            x = torch.cat([x, plane], dim=1)
        for layer in list(self.layers)[
            :-1
        ]:  # a slice of a Sequential would be a new module at each call
            x = layer(x)
        return x

    def judge(self, features: Tensor) -> Tensor:
        """The logits of ``features``."""
        logits: Tensor = self.layers[-1](features)
        return logits.squeeze(1) if self.outputs == 1 else logits

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.judge(self.features(x, y))
