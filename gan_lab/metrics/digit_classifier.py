"""The lab's digit classifier: predicts the digit, and its features are those of a Fréchet distance."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

# side of its input in pixels
SIZE = 28
FEATURES = 64
# written by scripts/train_digit_classifier.py; digits.json has the protocol
WEIGHTS = Path(__file__).with_name("digits.safetensors")


def _convolution(into: int, out: int, stride: int = 1, padding: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(into, out, 3, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU())


class DigitClassifier(nn.Module):
    """A small convolutional network from images [B, 1 or 3, H, W] in [-1, 1] to logits [B, 10], one for each digit.

    Five 3 x 3 convolutions and a dense layer to 64 features, under 210,000 parameters.
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
            nn.Linear(64 * 5 * 5, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, 10))

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the last layer, [B, 64], from images averaged to gray and resized to 28 x 28."""
        images = images.mean(dim=1, keepdim=True)
        if images.shape[-2:] != (SIZE, SIZE):
            images = interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def load_digit_classifier(device: torch.device | str = "cpu") -> DigitClassifier:
    """Load the classifier that ships with the lab: float32, evaluation mode, frozen."""
    classifier = DigitClassifier()
    classifier.load_state_dict(load_file(WEIGHTS))
    return classifier.requires_grad_(False).eval().to(device)
