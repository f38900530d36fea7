"""Image classifier, which is also the discriminator of a semi-supervised GAN."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gan_lab.networks.dcgan import NEGATIVE_SLOPE, DCGANDiscriminator
from gan_lab.networks.layers import Network


class Classifier(Network):
    """Images [B, C, H, W] to logits [B, classes], without normalization layers.

    The convolutions of ``DCGANDiscriminator``, a dense layer to ``hidden`` features, LeakyReLU, and
    a dense layer to the classes. He initialization keeps the variance of activations constant over
    layers.

    Source: convolutions as in Radford et al. 2015 (arXiv 1511.06434), section 3; initialization as
    in He et al. 2015 (arXiv 1502.01852), equation 15.
    """

    def __init__(
        self, *, shape: Sequence[int], classes: int, width: int = 32, hidden: int = 256
    ) -> None:
        super().__init__()
        self.body = DCGANDiscriminator(shape=shape, width=width, norm="none", outputs=hidden)
        self.head = nn.Linear(hidden, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, NEGATIVE_SLOPE)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """Compute the input of the last dense layer, [B, hidden], from images [B, C, H, W]."""
        return leaky_relu(self.body(x), NEGATIVE_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
