"""Convolutions with fixed random weights, a baseline for trained extractors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_lab.images import to_unit
from gan_lab.metrics.extractors.base import Extractor, expand_gray

# Images are resized to this side in pixels.
SIDE_PX = 64
NUM_FEATURES = 64
# input and output channels
LAYER_CHANNELS = ((3, 8), (8, 8), (8, 16))


class RandomNetwork(nn.Module):
    """A network that maps images [B, C, H, W] in [-1, 1] to features [B, 64].

    The features are the mean and the standard deviation of each feature map.
    """

    def __init__(self) -> None:
        super().__init__()
        # Leave the global random state unchanged.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.ModuleList(
                nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
                for in_channels, out_channels in LAYER_CHANNELS
            )
            for layer in self.layers:
                nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        x = expand_gray(images)
        if x.shape[-2:] != (SIDE_PX, SIDE_PX):
            x = interpolate(x, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)
        features = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            features += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(features, dim=1)


class Random(Extractor):
    """Features of a random network, which can only rank runs on the same data."""

    name = "random"
    features = NUM_FEATURES
    resize = f"bilinear, antialiased, to {SIDE_PX}"

    def __init__(self) -> None:
        self.network = RandomNetwork()

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(to_unit(pixels)), None


EXTRACTOR = Random
