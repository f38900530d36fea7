"""What is measured on which content: statistics of each batch first, scores of all of them at the end.

torchmetrics computes the Fréchet distance and the inception score; here they are given features.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from gan_lab.data.toy import MODES, SPREAD, centres
from gan_lab.images import Batch, to_unit
from gan_lab.metrics.digits import FEATURES, load_digit_classifier

Statistics = dict[str, Tensor]


class Measure(ABC):
    """Scores that share one extractor. The first name is the default headline."""

    names: tuple[str, ...]
    extractor: dict[str, Any]  # what the protocol says of the extractor
    features: int = 0  # of its Fréchet distance, which of fewer images is meaningless

    @abstractmethod
    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        """Statistics of what a family made of a batch of held-out reals, each [B, ...].

        Images are pixels, uint8 [B, C, H, W] (points: float), here and in the batch; logits are [B, classes].
        """

    def reference(self, batch: Batch) -> Statistics:
        """The same of the reals; nothing, for a measure that compares image by image."""
        return self.observe({"generated": batch.images}, batch)

    @abstractmethod
    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        """The scores of all fakes against all reals."""


def weights_hash(network: nn.Module) -> str:
    """16 hexadecimal digits of SHA-256 over all weights and buffers of a network on the CPU."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def lower_is_better(score: str) -> bool:
    """Whether a score is a distance."""
    return score.startswith(("fd_", "fid", "kid", "kd_"))


class Given(nn.Module):
    """The extractor of a torchmetrics measure that is given features instead of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) of features [N, D] and [M, D], in float64.

    Raises ValueError for fewer than two rows.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"a Fréchet distance needs two images or more of each kind, not {len(real)} and {len(fake)}")
    distance = FrechetInceptionDistance(feature=Given(real.shape[1]), sync_on_compute=False)
    distance.update(real.double(), real=True)
    distance.update(fake.double(), real=False)
    return max(0.0, float(distance.compute()))


def inception_score(logits: Tensor, splits: int) -> float:
    """exp(E[KL(p(y|x) ‖ p(y))]) of logits [N, classes], mean over ``splits`` parts of the images.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4.
    """
    with torch.random.fork_rng(devices=[]):  # torchmetrics shuffles with the global generator
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the memory for all features, and of the spread over one split
            score = InceptionScore(feature=Given(logits.shape[1]), splits=splits, sync_on_compute=False)
            score.update(logits.double())
            return float(score.compute()[0])


class Digits(Measure):
    """Digits judged by the lab's own classifier: distance, inception-score formula, and is it the digit asked for."""

    features = FEATURES

    def __init__(self, conditional: bool) -> None:
        self.conditional = conditional
        self.names = ("fd_digits", "digit_score") + (("label_accuracy",) if conditional else ())
        self.classifier = load_digit_classifier()
        self.extractor = {"extractor": "digits", "weights_sha256": weights_hash(self.classifier)}

    @torch.no_grad()
    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        images = outputs["generated"]
        self.classifier.to(images.device)
        features = self.classifier.features(to_unit(images))
        logits = self.classifier.head(features)
        observed = {"features": features.cpu(), "logits": logits.cpu()}
        if self.conditional:
            observed["correct"] = (logits.argmax(dim=1) == batch.labels).cpu()
        return observed

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values = {
            "fd_digits": frechet_distance(real["features"], fake["features"]),
            "digit_score": inception_score(fake["logits"], splits=1),
        }
        if "correct" in fake:
            values["label_accuracy"] = float(fake["correct"].double().mean())
        return values


class Points(Measure):
    """The toy ring: how many modes got at least a quarter of their share, and how many points lie on a mode.

    A point lies on a mode within three standard deviations of its centre.

    Source: Srivastava et al. 2017 (arXiv 1705.07761), section 4.1.
    """

    names = ("modes_covered", "high_quality")

    def __init__(self) -> None:
        self.extractor = {"extractor": "points"}

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        distance = torch.cdist(outputs["generated"].flatten(1).float().cpu(), torch.from_numpy(centres()))
        nearest = distance.min(dim=1)
        return {"mode": nearest.indices, "near": nearest.values < 3 * SPREAD}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        hits = torch.bincount(fake["mode"][fake["near"]], minlength=MODES)
        enough = len(fake["mode"]) / MODES / 4
        return {
            "modes_covered": float((hits >= enough).sum()),
            "high_quality": float(fake["near"].double().mean()),
        }


class Inception(Measure):
    """FID and IS by torchmetrics, on torch-fidelity's port of the original Inception network."""

    names = ("fid", "is")

    def __init__(self, weights: str | None) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        layers = ["2048", "logits_unbiased"]
        self.network = NoTrainInceptionV3("inception-v3-compat", layers, weights, antialias=False)
        sha256 = weights_hash(self.network)
        self.extractor = {"extractor": "inception-v3-compat", "weights_sha256": sha256, "resize": "bilinear to 299"}

    @torch.no_grad()
    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        images = outputs["generated"]
        self.network.to(images.device)
        colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        features, logits = self.network._torch_fidelity_forward(colour)  # its forward gives the first only
        return {"features": features.cpu(), "logits": logits.cpu()}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        splits = min(10, len(fake["logits"]))
        return {
            "fid": frechet_distance(real["features"], fake["features"]),
            "is": inception_score(fake["logits"], splits),
        }
