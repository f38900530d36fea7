"""Fully connected networks, as in the original GAN (Goodfellow et al. 2014, arXiv 1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lab.networks.layers import Network, Norm, dropout_layers, one_hot, projection_logits

# weight of the current batch; the same as momentum=0.8 in Keras
BATCH_NORM_MOMENTUM = 0.2
# negative slope of LeakyReLU
NEGATIVE_SLOPE = 0.2


class MLPGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W] in [-1, 1].

    Three hidden layers of 4, 8 and 16 x ``width`` features, each dense, LeakyReLU and batch norm;
    then dense and tanh. ``eps`` is that of batch norm. Points in the plane, which are images of
    ``shape`` (2, 1, 1), need ``norm`` "none". Labels are concatenated to the latents as one-hot
    vectors.

    Source: Goodfellow et al. 2014; with a width of 64, layer sizes and order are those of
    Keras-GAN's ``gan.py``.
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
        inputs = z_dim + classes
        for features in (4 * width, 8 * width, 16 * width):
            layers += [nn.Linear(inputs, features), nn.LeakyReLU(NEGATIVE_SLOPE)]
            if norm == "batch":
                layers.append(nn.BatchNorm1d(features, eps, BATCH_NORM_MOMENTUM))
            inputs = features
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, math.prod(shape)), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.classes:
            z = torch.cat([z, one_hot(y, self.classes, like=z)], dim=1)
        images: Tensor = self.layers(z)
        return images.view(-1, *self.shape)


class MLPDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to one logit per image, [B].

    Two hidden layers of 8 and 4 x ``width`` features, each dense, layer norm if ``norm`` is
    "layer", LeakyReLU and ``dropout``; then dense. There is no batch norm. Labels are concatenated
    to the pixels as one-hot vectors, or with ``projection`` embedded as a vector of features, whose
    inner product with those of the image is added to the logit.

    Source: as ``MLPGenerator``, without the sigmoid, since losses take logits; projection as in
    Miyato & Koyama 2018 (arXiv 1802.05637).
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        norm: Norm = "none",
        dropout: float = 0.0,
        slope: float = NEGATIVE_SLOPE,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.classes = classes
        has_projection = classes > 0 and projection
        layers: list[nn.Module] = []
        inputs = math.prod(shape) + (0 if has_projection else classes)
        for features in (8 * width, 4 * width):
            layers.append(nn.Linear(inputs, features))
            if norm == "layer":
                layers.append(nn.LayerNorm(features))
            layers += [nn.LeakyReLU(slope), *dropout_layers(dropout)]
            inputs = features
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1))
        self.embedding = nn.Linear(classes, inputs, bias=False) if has_projection else None

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the input of the last dense layer, [B, F].

        Args:
            x: Images [B, C, H, W].
            y: Labels [B], if the network has classes.
        """
        x = x.flatten(1)
        if self.classes and self.embedding is None:
            x = torch.cat([x, one_hot(y, self.classes, like=x)], dim=1)
        # a list, since slicing a Sequential creates a new module
        for layer in list(self.layers)[:-1]:
            x = layer(x)
        return x

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return projection_logits(self.features(x, y), self.layers[-1], self.embedding, y)
