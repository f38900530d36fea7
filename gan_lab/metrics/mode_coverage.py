"""Coverage of the modes of the toy data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_lab.data.toy import MODES, SPREAD, centres
from gan_lab.images import Batch
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.formulas import Statistics

DEVIATIONS = 3  # of a mode, within which a point lies on it
SHARE = 0.25  # of the points that a mode should have, with which it is covered


class ModeCoverage(Metric):
    """The toy ring: how many modes got at least a quarter of their share, and how many points lie on a mode.

    A point lies on a mode within three standard deviations of its centre, as in Srivastava et al. 2017 (arXiv
    1705.07761), section 4.1. There one such point is enough to cover a mode; the quarter is the lab's own rule.
    """

    priority = 40

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return setting.spec.content == "points"

    def __init__(self) -> None:
        self.higher_is_better = {"modes_covered": True, "high_quality": True}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        distance = torch.cdist(outputs["generated"].flatten(1).float().cpu(), torch.from_numpy(centres()))
        nearest = distance.min(dim=1)
        return {"mode": nearest.indices, "near": nearest.values < DEVIATIONS * SPREAD}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        hits = torch.bincount(fake["mode"][fake["near"]], minlength=MODES)
        enough = SHARE * len(fake["mode"]) / MODES
        return {
            "modes_covered": float((hits >= enough).sum()),
            "high_quality": float(fake["near"].double().mean()),
        }

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        near = f"within {DEVIATIONS} standard deviations of its centre"
        covered = {"covered": f"{SHARE} of a mode's share of the points"} if score == "modes_covered" else {}
        return {"extractor": "points", "on_a_mode": near} | covered


METRIC = ModeCoverage
