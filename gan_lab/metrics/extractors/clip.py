"""The picture side of a CLIP, for CMMD: torch-fidelity's network, and OpenAI's weights by file."""

from __future__ import annotations

import warnings

from torch import Tensor
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

from gan_lab.metrics.extractors.base import Extractor, colour, named_file
from gan_lab.utils.errors import UserError, first_line

SOURCE = "OpenAI's ViT-L-14-336px.pt is the one of CMMD"


class CLIP(Extractor):
    """The embedding of an image, 768 numbers of a ViT-L/14; the architecture is read from the file.

    Raises UserError for a file that is not there or is something else. CMMD's authors resize bicubically, and to 336.

    Source: Radford et al. 2021 (arXiv 2103.00020); Jayasumana et al. 2024 (arXiv 2401.09603) for the metric.
    """

    name = "clip"
    weights_key = "clip_weights"
    sigma = 10.0
    network: FeatureExtractorCLIP

    def __init__(self, weights: str) -> None:
        path = named_file(self.weights_key, weights, SOURCE)
        try:  # a TorchScript archive, of which the weights alone are taken: nothing in it is run
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the format is an old one
                self.network = FeatureExtractorCLIP("clip-vit-l-14-336px", ["clip"], str(path))
        except Exception as error:  # reading a foreign file can raise anything
            raise UserError(f"metrics.clip_weights={weights} holds no CLIP of OpenAI's: {first_line(error)}") from None
        visual = self.network.model.visual
        self.features = visual.output_dim
        self.resize = f"bilinear as in TensorFlow 1, to {self.network.resolution}"

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(colour(pixels))[0], None

    @property
    def kernel(self) -> str:
        return "cmmd"


EXTRACTOR = CLIP
