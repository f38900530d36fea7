"""Networks of DCGAN (Radford et al. 2015, arXiv 1511.06434).

They support all image sizes that halve repeatedly to 4..7 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import (
    GrayConv2d,
    GrayConvTranspose2d,
    Network,
    Norm,
    dropout_layers,
    initialize_normal,
    one_hot,
    projection_logits,
)
from gan_lab.utils.errors import UserError

# negative slope of LeakyReLU (Radford et al. 2015, section 4)
NEGATIVE_SLOPE = 0.2


def num_downsamples(height: int, width: int) -> int:
    """Return the number of halvings, at least 1, that reduce both sides to 4..7 pixels.

    Raises:
        UserError: No number of halvings fits both sides.

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
        f"Image size {height} x {width} is not supported: repeated halving must reduce both sides "
        "to 4..7 pixels. Choose another data.size such as 28, 32 or 64"
    )


class DCGANGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    A dense layer to the lowest resolution, then transposed convolutions of stride 2 with batch norm
    and ReLU, and tanh. The last hidden layer has ``width`` channels; each layer before it doubles
    them. Labels are concatenated to the latents as one-hot vectors (Mirza & Osindero 2014,
    arXiv 1411.1784).

    Source: Radford et al. 2015, section 3 and figure 1. Kernels are 4 x 4 instead of 5 x 5, so that
    the stride divides their size.
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
        # channels, height and width of the lowest resolution
        self.smallest = (width * 2 ** (count - 1), height >> count, breadth >> count)
        widest, rows, columns = self.smallest
        # batch norm makes biases redundant
        bias = norm == "none"
        self.project = nn.Linear(z_dim + classes, widest * rows * columns, bias=bias)

        layers = self._norm_relu(widest, norm)
        for i in reversed(range(count - 1)):
            before, after = width * 2 ** (i + 1), width * 2**i
            layers += [
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bias),
                *self._norm_relu(after, norm),
            ]
        self.layers = nn.Sequential(
            *layers, GrayConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()
        )
        initialize_normal(self)

    @staticmethod
    def _norm_relu(channels: int, norm: Norm) -> list[nn.Module]:
        return [*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU()]

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.classes:
            z = torch.cat([z, one_hot(y, self.classes, like=z)], dim=1)
        channels, rows, columns = self.smallest
        # channels last
        x = self.project(z).view(-1, rows, columns, channels).permute(0, 3, 1, 2)
        images: Tensor = self.layers(x)
        return images


class DCGANDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to logits [B] or [B, outputs].

    Convolutions of stride 2 with LeakyReLU, the first with ``width`` channels and each next one
    with twice as many, and a dense layer. The first convolution and the dense layer have no norm.
    ``norm`` is "batch" as published, or "layer" or "none" for critics with a per-image gradient
    penalty. ``dropout`` follows each LeakyReLU; ``slope`` = 0 makes it ReLU. Labels are embedded as
    an additional input channel, or with ``projection`` as a vector of features, whose inner product
    with those of the image is added to the logit.

    Source: Radford et al. 2015, section 3; labels as in Mirza & Osindero 2014, or as in Miyato &
    Koyama 2018 (arXiv 1802.05637).
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
        slope: float = NEGATIVE_SLOPE,
        projection: bool = False,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        count = num_downsamples(height, breadth)
        smallest = width * 2 ** (count - 1) * (height >> count) * (breadth >> count)
        self.classes = classes
        self.outputs = outputs
        self.projection = projection
        self.plane = (1, height, breadth)
        embedded = smallest if projection else height * breadth
        self.embedding = nn.Linear(classes, embedded, bias=False) if classes else None
        planes = 1 if classes and not projection else 0

        layers: list[nn.Module] = [
            GrayConv2d(channels + planes, width, 4, 2, 1),
            nn.LeakyReLU(slope),
            *dropout_layers(dropout),
        ]
        for i in range(count - 1):
            before, after = width * 2**i, width * 2 ** (i + 1)
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=norm != "batch"))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(after))
            elif norm == "layer":
                layers.append(nn.GroupNorm(1, after))
            layers += [nn.LeakyReLU(slope), *dropout_layers(dropout)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(smallest, outputs))
        initialize_normal(self)
        if self.embedding is not None and not projection:
            # the scale of the pixels: with std 0.02 the network would ignore the labels
            nn.init.normal_(self.embedding.weight)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the input of the last dense layer, [B, F].

        Args:
            x: Images [B, C, H, W].
            y: Labels [B], if the network has classes.
        """
        if self.embedding is not None and not self.projection:
            plane = self.embedding(one_hot(y, self.classes, like=x)).view(-1, *self.plane)
            x = torch.cat([x, plane], dim=1)
        # a list, since slicing a Sequential creates a new module
        for layer in list(self.layers)[:-1]:
            x = layer(x)
        return x

    def compute_logits(self, features: Tensor) -> Tensor:
        """Apply the last dense layer to ``features``."""
        logits: Tensor = self.layers[-1](features)
        return logits.squeeze(1) if self.outputs == 1 else logits

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.projection:
            return projection_logits(self.features(x), self.layers[-1], self.embedding, y)
        return self.compute_logits(self.features(x, y))
