"""Coverage of the modes of the toy data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lab.data.toy import MODES, SPREAD, centers
from gan_lab.images import Batch
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation

# A point within this many standard deviations of a mode has high quality.
MAX_DEVIATIONS = 3
# A mode is covered if it has this fraction of the points that a uniform distribution over the modes
# would give it.
MIN_SHARE = 0.25


class ModeCoverage(Metric):
    """Number of covered modes of the toy ring, and the share of high-quality points.

    A point has high quality within three standard deviations of a mode's center. In the paper one
    such point covers a mode; here a quarter of the mode's share is required.

    Source: Srivastava et al. 2017 (arXiv 1705.07761), section 4.1.
    """

    priority = 40
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "modes_covered": Explanation(
            "Modes covered",
            "Number of modes of the ring that the generator produces",
            True,
            "0 to 8",
        ),
        "high_quality": Explanation(
            "High-quality samples",
            "Share of points within three standard deviations of a mode",
            True,
            "0 to 1; 0.99 for real points",
        ),
    }

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return setting.spec.content == "points"

    def __init__(self) -> None:
        self.higher_is_better = {"modes_covered": True, "high_quality": True}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        distance = torch.cdist(
            outputs["generated"].flatten(1).float().cpu(), torch.from_numpy(centers())
        )
        nearest = distance.min(dim=1)
        return {"mode": nearest.indices, "near": nearest.values < MAX_DEVIATIONS * SPREAD}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        hits = torch.bincount(fake["mode"][fake["near"]], minlength=MODES)
        enough = MIN_SHARE * len(fake["mode"]) / MODES
        return {
            "modes_covered": float((hits >= enough).sum()),
            "high_quality": float(fake["near"].double().mean()),
        }

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        # The text is stored in summary.json, so its spelling stays.
        near = f"within {MAX_DEVIATIONS} standard deviations of its centre"
        covered = (
            {"covered": f"{MIN_SHARE} of a mode's share of the points"}
            if score == "modes_covered"
            else {}
        )
        return {"extractor": "points", "on_a_mode": near} | covered


METRIC = ModeCoverage
