"""Agreement of a categorical code, learned without labels, with the classes."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule
    from gan_lab.data.reference import Reference

# repetitions of the baseline, whose mean is reported
BASELINE_DRAWS = 100


class CodeAccuracy(Metric):
    """Share of held-out images whose class a categorical code, learned without labels, predicts.

    Categories are matched to classes by the one-to-one assignment with the highest accuracy on
    these images. Since it is chosen on them, random codes exceed one in the number of classes:
    ``code_accuracy_of_random_codes`` is their mean accuracy on the same images.

    Source: Chen et al. 2016 (arXiv 1606.03657), section 7.2.
    """

    priority = 70
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "code_accuracy": Explanation(
            "Code accuracy",
            "Share of held-out images whose class is the most frequent one of their latent code, "
            "which was learned without labels",
            True,
            "0 to 1; the value of random codes by chance",
        ),
        "code_accuracy_of_random_codes": Explanation(
            "Code accuracy of random codes",
            "The same share for codes that know nothing of the image: above one in ten with ten "
            "classes, because each code stands for the class that fits it best",
            None,
            "0 to 1",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return "code_logits" in setting.output_names and setting.spec.classes > 0

    def __init__(self) -> None:
        self.higher_is_better = {"code_accuracy": True}
        self.baseline_names = ("code_accuracy_of_random_codes",)
        # known from the first outputs
        self.categories = 0

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {
            "extractor": "none",
            "matching": "one category for each class, the best on these images",
        }

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.labels is not None
        self.categories = outputs["code_logits"].shape[1]
        return {"category": outputs["code_logits"].argmax(dim=1).cpu(), "label": batch.labels.cpu()}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        return {"code_accuracy": matched_accuracy(fake["category"], fake["label"])}

    def baselines(self, data: GANDataModule, reals: Reference) -> dict[str, float]:
        labels = torch.from_numpy(reals.labels).long()
        generator = torch.Generator().manual_seed(0)
        accuracies = [
            matched_accuracy(
                torch.randint(self.categories, (len(labels),), generator=generator), labels
            )
            for _ in range(BASELINE_DRAWS)
        ]
        return {"code_accuracy_of_random_codes": mean(accuracies)}


def matched_accuracy(categories: Tensor, labels: Tensor) -> float:
    """Compute the share of labels [N] that categories [N] predict, with the best assignment."""
    # imported here because only InfoGAN needs scipy
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(int(categories.max()) + 1, int(labels.max()) + 1, dtype=torch.int64)
    counts.index_put_(
        (categories, labels), torch.ones(len(labels), dtype=torch.int64), accumulate=True
    )
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


METRIC = CodeAccuracy
