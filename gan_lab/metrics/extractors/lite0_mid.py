"""The first half of EfficientNet-Lite0, which responds to textures and parts of objects.

A Fréchet distance of its 112 features needs 1,120 images.
"""

from __future__ import annotations

from torch import Tensor

from gan_lab.metrics.extractors.lite0 import Lite0
from gan_lab.networks.efficientnet_lite import MIDDLE_CHANNELS


class Lite0Middle(Lite0):
    """The 112 channels at the end of the fifth stage, averaged over the image."""

    name = "lite0_mid"
    features = MIDDLE_CHANNELS

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network.middle(self.prepare(pixels)).mean(dim=(2, 3)), None


EXTRACTOR = Lite0Middle
