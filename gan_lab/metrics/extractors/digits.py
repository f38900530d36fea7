"""The lab's digit classifier as an extractor."""

from __future__ import annotations

from torch import Tensor

from gan_lab.images import to_unit
from gan_lab.metrics.digit_classifier import NUM_FEATURES, SIDE_PX, load_digit_classifier
from gan_lab.metrics.extractors.base import Extractor


class Digits(Extractor):
    """The 64 features before the last layer of the digit classifier, and its logits."""

    name = "digits"
    score = "digit_score"
    features = NUM_FEATURES
    resize = f"bilinear, antialiased, to {SIDE_PX}"

    def __init__(self) -> None:
        self.network = self.classifier = load_digit_classifier()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.classifier.features(to_unit(pixels))
        return features, self.classifier.head(features)


EXTRACTOR = Digits
