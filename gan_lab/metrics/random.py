"""An extractor for images that no shipped network knows: convolutions with fixed random weights, honest in its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_lab.images import Batch, to_unit
from gan_lab.metrics.measures import Measure, Statistics, frechet_distance, weights_hash

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
        x = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        if x.shape[-2:] != (SIZE, SIZE):
            x = interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        features = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            features += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(features, dim=1)


class Random(Measure):
    """The Fréchet distance of random features: it orders runs on the same data, and says nothing beyond."""

    names = ("fd_random",)
    features = FEATURES

    def __init__(self) -> None:
        self.network = RandomNetwork()
        self.extractor = {"extractor": "random", "weights_sha256": weights_hash(self.network)}

    @torch.no_grad()
    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        images = outputs["generated"]
        self.network.to(images.device)
        return {"features": self.network(to_unit(images)).cpu()}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        return {"fd_random": frechet_distance(real["features"], fake["features"])}
