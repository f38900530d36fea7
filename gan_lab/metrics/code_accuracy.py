"""Agreement of a categorical code, learned without labels, with the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics.base import Explanation, Metric, Setting, Statistics


class CodeAccuracy(Metric):
    """Share of held-out images whose class a categorical code, learned without labels, predicts.

    Categories are matched to classes by the one-to-one assignment with the highest accuracy on
    these images.

    Source: Chen et al. 2016 (arXiv 1606.03657), section 7.2.
    """

    priority = 70
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "code_accuracy": Explanation(
            "Code accuracy",
            "Share of held-out images whose class is the most frequent one of their latent code, "
            "which was learned without labels",
            True,
            "0 to 1; 0.1 by chance with ten classes",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return "code_logits" in setting.output_names and setting.spec.classes > 0

    def __init__(self) -> None:
        self.higher_is_better = {"code_accuracy": True}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {
            "extractor": "none",
            "matching": "one category for each class, the best on these images",
        }

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.labels is not None
        return {"category": outputs["code_logits"].argmax(dim=1).cpu(), "label": batch.labels.cpu()}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        # imported here because only InfoGAN needs scipy
        from scipy.optimize import linear_sum_assignment

        counts = torch.zeros(
            int(fake["category"].max()) + 1, int(fake["label"].max()) + 1, dtype=torch.int64
        )
        counts.index_put_(
            (fake["category"], fake["label"]),
            torch.ones(len(fake["label"]), dtype=torch.int64),
            accumulate=True,
        )
        rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
        return {"code_accuracy": float(counts[rows, columns].sum() / len(fake["label"]))}


METRIC = CodeAccuracy
