"""Reconstructed images against the originals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch, to_unit
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.digit_classifier import load_digit_classifier
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.extractors.base import weights_hash
from gan_lab.metrics.psnr import psnr, squared_error


class Reconstruction(Metric):
    """PSNR of reconstructed images in dB, and for digits the share whose class is preserved."""

    priority = 80
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "reconstruction_accuracy": Explanation(
            "Reconstruction accuracy",
            "Share of held-out digits whose reconstruction is recognized as the same class",
            True,
            "0 to 1; 0.1 by chance",
        ),
        "reconstruction_psnr": Explanation(
            "PSNR of reconstructions",
            "Similarity of held-out images to their reconstructions, pixel by pixel, in dB",
            True,
            "0 to 100; 15 to 25 is usual",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return "reconstructed" in setting.output_names

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.spec.content == "digits")]

    def __init__(self, digits: bool) -> None:
        names = [*(["reconstruction_accuracy"] if digits else []), "reconstruction_psnr"]
        self.higher_is_better = dict.fromkeys(names, True)
        self.classifier = load_digit_classifier() if digits else None

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score == "reconstruction_accuracy" and self.classifier:
            return {"extractor": "digits", "weights_sha256": weights_hash(self.classifier)}
        return {"extractor": "pixels"}

    @torch.no_grad()
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        images = outputs["reconstructed"]
        observed = {"error": squared_error(images, batch.images)}
        if self.classifier:
            self.classifier.to(images.device)
            reconstructed = self.classifier(to_unit(images)).argmax(dim=1)
            original = (
                self.classifier(to_unit(batch.images)).argmax(dim=1)
                if batch.labels is None
                else batch.labels
            )
            observed["kept"] = (reconstructed == original).cpu()
        return observed

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values = (
            {"reconstruction_accuracy": float(fake["kept"].double().mean())}
            if "kept" in fake
            else {}
        )
        return values | {"reconstruction_psnr": psnr(fake["error"])}


METRIC = Reconstruction
