"""Fully connected networks, as in the first generative adversarial networks (Goodfellow et al. 2014, arXiv 1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, Norm, dropout_layers, one_hot

BATCH_NORM_MOMENTUM = 0.2  # weight of the new batch; Keras writes the same as momentum=0.8
SLOPE = 0.2  # of LeakyReLU below zero


class MLPGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    Dense, LeakyReLU, batch norm for each of 4, 8 and 16 x ``width`` features, then dense and tanh. ``norm`` "none" leaves
    batch norm out, which points in the plane, images of ``shape`` (2, 1, 1), need; ``eps`` is added to its variances. Labels are concatenated to the latents
    as one-hot rows.

    Source: Goodfellow et al. 2014; with a width of 64 the widths and the order of layers are those of Keras-GAN's
    ``gan.py``.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "batch",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.shape, self.classes = tuple(shape), classes
        layers: list[nn.Module] = []
        before = z_dim + classes
        for features in (4 * width, 8 * width, 16 * width):
            layers += [nn.Linear(before, features), nn.LeakyReLU(SLOPE)]
            if norm == "batch":
                layers.append(nn.BatchNorm1d(features, eps, BATCH_NORM_MOMENTUM))
            before = features
        self.layers = nn.Sequential(*layers, nn.Linear(before, math.prod(shape)), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.classes:
            z = torch.cat([z, one_hot(y, self.classes, like=z)], dim=1)
        images: Tensor = self.layers(z)
        return images.view(-1, *self.shape)


class MLPDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to one logit per image, [B].

    Dense, layer norm if ``norm`` is "layer", LeakyReLU and ``dropout`` for each of 8 and 4 x ``width`` features, then
    dense; batch norm it never has. Labels are concatenated to the pixels as one-hot rows.

    Source: as ``MLPGenerator``, without the sigmoid: the losses take logits.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "none",
        dropout: float = 0.0,
        slope: float = SLOPE,
    ) -> None:
        super().__init__()
        self.classes = classes
        layers: list[nn.Module] = []
        before = math.prod(shape) + classes
        for features in (8 * width, 4 * width):
            layers += [
                nn.Linear(before, features),
                *([nn.LayerNorm(features)] if norm == "layer" else []),
            ]
            layers += [nn.LeakyReLU(slope), *dropout_layers(dropout)]
            before = features
        self.layers = nn.Sequential(*layers, nn.Linear(before, 1))

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features that the last dense layer reads of images [B, C, H, W], and of labels [B] if it has classes: [B, F]."""
        x = x.flatten(1)
        if self.classes:
            x = torch.cat([x, one_hot(y, self.classes, like=x)], dim=1)
        for layer in list(self.layers)[
            :-1
        ]:  # a slice of a Sequential would be a new module at each call
            x = layer(x)
        return x

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits: Tensor = self.layers[-1](self.features(x, y))
        return logits.squeeze(1)
