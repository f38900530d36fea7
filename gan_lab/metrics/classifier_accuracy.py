"""Accuracy of a classifier that a family trains together with its generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation


class ClassifierAccuracy(Metric):
    """Share of real images that a family's own classifier classifies correctly.

    The supervised baseline is reported at its own best iteration.
    """

    priority = 10
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "accuracy": Explanation(
            "Accuracy",
            "Share of held-out images that the discriminator's classifier recognizes",
            True,
            "0 to 1",
        ),
        "baseline_accuracy": Explanation(
            "Accuracy of the baseline",
            "Share that a classifier recognizes that was trained with the labeled images alone",
            None,
            "0 to 1",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return "logits" in setting.output_names

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.output_names)]

    def __init__(self, output_names: tuple[str, ...]) -> None:
        self.prefixes = [
            prefix for prefix in ("", "baseline_") if f"{prefix}logits" in output_names
        ]
        self.higher_is_better = {
            f"{prefix}accuracy": None if prefix else True for prefix in self.prefixes
        }
        self.own_best = {f"{prefix}accuracy": True for prefix in self.prefixes if prefix}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "none"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.labels is not None
        return {
            prefix: outputs[f"{prefix}logits"].argmax(dim=1).eq(batch.labels).cpu()
            for prefix in self.prefixes
        }

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        return {
            name: float(fake[prefix].double().mean())
            for name, prefix in zip(self.names, self.prefixes, strict=True)
        }


METRIC = ClassifierAccuracy
