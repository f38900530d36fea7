"""The Inception network of FID and KID, in torch-fidelity's port."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from gan_lab.metrics.extractors.base import Extractor, expand_gray, require_weights_file
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.network import is_reachable

LAYERS = ["2048", "logits_unbiased"]
WEIGHTS_REMEDY = (
    f"Download {URL_INCEPTION_V3} and pass the file: metrics.inception_weights=FILE for a run, "
    "weights= in Python, --weights FILE for gan-lab score."
)


class Inception(Extractor):
    """2,048 pooled features and the logits without bias, for FID, KID and IS.

    Args:
        weights: torch-fidelity's file of weights, or "auto": the file in torch's hub folder, which
            is downloaded if it is missing.

    Source: Szegedy et al. 2015 (arXiv 1512.00567); Heusel et al. 2017 (arXiv 1706.08500), Bińkowski
    et al. 2018 (arXiv 1801.01401) and Salimans et al. 2016 (arXiv 1606.03498) for the metrics.

    Raises:
        UserError: The weights are missing and cannot be downloaded, or are those of another
            network.
    """

    name = "inception"
    score = "is"
    splits = 10
    features = 2048
    resize = "bilinear as in TensorFlow 1, to 299"
    weights_key = "inception_weights"

    def __init__(self, weights: str) -> None:
        if weights == "off":
            raise UserError(
                "metrics.extractors has inception, but metrics.inception_weights=off. Set it to "
                "auto or to a file."
            )
        path = None if weights == "auto" else weights
        if path is None:
            reason = explain_missing_weights()
            if reason:
                raise UserError(
                    f"The extractor inception is not available: {reason}. {WEIGHTS_REMEDY}"
                )
        else:
            require_weights_file(self.weights_key, path, f"torch-fidelity's is {URL_INCEPTION_V3}")
            # torch-fidelity's reader would run code that a pickle contains.
            try:
                torch.load(path, weights_only=True)
            except Exception as error:
                # Reading an arbitrary file can raise anything.
                raise UserError(_describe_wrong_weights(path, error)) from None
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", LAYERS, path)
        except Exception as error:
            # For example a proxy that refuses, an interrupted download, or another network.
            if path is None:
                reason = f"the Inception weights cannot be downloaded ({type(error).__name__})"
                raise UserError(
                    f"The extractor inception is not available: {reason}. {WEIGHTS_REMEDY}"
                ) from None
            raise UserError(_describe_wrong_weights(path, error)) from None

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.network(expand_gray(pixels))
        return features, logits

    @property
    def distance(self) -> str:
        return "fid"

    @property
    def kernel(self) -> str:
        return "kid"


def explain_missing_weights() -> str:
    """Explain why torch-fidelity's weights are not available.

    Returns:
        The reason; empty if the weights are on this machine or their host answers.
    """
    name = os.path.basename(urllib.parse.urlparse(URL_INCEPTION_V3).path)
    if (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file() or is_reachable(
        URL_INCEPTION_V3
    ):
        return ""
    return "the Inception weights are not on this machine and cannot be downloaded"


def _describe_wrong_weights(path: str, error: Exception) -> str:
    reason = first_line(error)
    return f"metrics.inception_weights={path} does not contain torch-fidelity's weights: {reason}"


EXTRACTOR = Inception
