"""An extractor for images that no shipped network knows: convolutions with fixed random weights, honest in its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_lab.images import to_unit
from gan_lab.metrics.extractors.base import Extractor, colour

SIZE = 64  # pixels, each side, to which images are resized
FEATURES = 64
LAYERS = ((3, 8), (8, 8), (8, 16))  # channels in and out


class RandomNetwork(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to features [B, 64]: mean and spread over the image of the maps of each layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the training's own draws go on as if this had not been
            torch.manual_seed(0)
            self.layers = nn.ModuleList(nn.Conv2d(into, out, 3, stride=2, padding=1) for into, out in LAYERS)
            for layer in self.layers:
                nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        x = colour(images)
        if x.shape[-2:] != (SIZE, SIZE):
            x = interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        features = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            features += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(features, dim=1)


class Random(Extractor):
    """Random features order runs on the same data, and say nothing beyond."""

    name = "random"
    features = FEATURES
    resize = f"bilinear, antialiased, to {SIZE}"

    def __init__(self) -> None:
        self.network = RandomNetwork()

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(to_unit(pixels)), None


EXTRACTOR = Random
