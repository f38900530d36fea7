"""The lab's digit classifier, whose features are also the ones of ``fd_digits``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

# side of its input in pixels
SIDE_PX = 28
NUM_FEATURES = 64
# Written by scripts/train_digit_classifier.py; digits.json documents the training.
WEIGHTS_FILE = Path(__file__).with_name("digits.safetensors")


def _convolution(
    in_channels: int, out_channels: int, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    layer = nn.Conv2d(in_channels, out_channels, 3, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels), nn.ReLU())


class DigitClassifier(nn.Module):
    """A small convolutional network that maps images [B, C, H, W] in [-1, 1] to logits [B, 10].

    C is 1 or 3. Five 3 x 3 convolutions and a linear layer to 64 features, under 210,000
    parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(1, 32),
            _convolution(32, 32, stride=2),
            _convolution(32, 64),
            _convolution(64, 64, stride=2),
            _convolution(64, 64, padding=0),
            nn.Flatten(),
            nn.Linear(64 * 5 * 5, NUM_FEATURES, bias=False),
            nn.BatchNorm1d(NUM_FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(NUM_FEATURES, 10))

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the last layer, [B, 64].

        The images are averaged over their channels and resized to 28 x 28.
        """
        images = images.mean(dim=1, keepdim=True)
        if images.shape[-2:] != (SIDE_PX, SIDE_PX):
            images = interpolate(images, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def load_digit_classifier(device: torch.device | str = "cpu") -> DigitClassifier:
    """Load the classifier that ships with the lab in float32 and evaluation mode, frozen."""
    classifier = DigitClassifier()
    classifier.load_state_dict(load_file(WEIGHTS_FILE))
    return classifier.requires_grad_(False).eval().to(device)
