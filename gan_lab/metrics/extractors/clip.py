"""The image encoder of CLIP, for CMMD: torch-fidelity's network with OpenAI's weights."""

from __future__ import annotations

import warnings

from torch import Tensor
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

from gan_lab.metrics.extractors.base import Extractor, expand_gray, require_weights_file
from gan_lab.utils.errors import UserError, first_line

WEIGHTS_SOURCE = "CMMD uses OpenAI's ViT-L-14-336px.pt"


class CLIP(Extractor):
    """The image embedding, 768 features for a ViT-L/14.

    The authors of CMMD resize bicubically to 336 pixels.

    Args:
        weights: OpenAI's file; the architecture is inferred from it.

    Source: Radford et al. 2021 (arXiv 2103.00020); Jayasumana et al. 2024 (arXiv 2401.09603) for
    the metric.

    Raises:
        UserError: The file is missing or contains something else.
    """

    name = "clip"
    weights_key = "clip_weights"
    sigma = 10.0
    network: FeatureExtractorCLIP

    def __init__(self, weights: str) -> None:
        path = require_weights_file(self.weights_key, weights, WEIGHTS_SOURCE)
        # Only the weights of the TorchScript archive are read; its code does not run.
        try:
            # torch deprecates the format.
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                self.network = FeatureExtractorCLIP("clip-vit-l-14-336px", ["clip"], str(path))
        except Exception as error:
            # Reading an arbitrary file can raise anything.
            raise UserError(
                f"metrics.clip_weights={weights} does not contain OpenAI's CLIP weights: "
                f"{first_line(error)}"
            ) from None
        visual = self.network.model.visual
        self.features = visual.output_dim
        self.resize = f"bilinear as in TensorFlow 1, to {self.network.resolution}"

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(expand_gray(pixels))[0], None

    @property
    def kernel(self) -> str:
        return "cmmd"


EXTRACTOR = CLIP
