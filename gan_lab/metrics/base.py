"""The contract of a measure: statistics of each batch first, scores of all of them at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gan_lab.data.toy import MODES, SPREAD, centres
from gan_lab.images import Batch
from gan_lab.metrics.formulas import Statistics


class Metric(ABC):
    """Some scores that are made in one go."""

    # of each score, the default headline first; None: more of it is neither better nor worse
    higher_is_better: Mapping[str, bool | None]
    features: int = 0  # of its Fréchet distance, which of fewer images is meaningless
    sum_states: frozenset[str] = (
        frozenset()
    )  # statistics that are added over the batches; of the others the rows are kept
    limited_states: frozenset[str] = frozenset()  # rows of which no more than metrics.max_features_kept are kept
    needs_reals: bool = False  # whether it looks at the real that a fake was made for
    reals: str = ""  # what the statistics of the reals depend on besides the reals; empty: it needs none

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores."""
        return tuple(self.higher_is_better)

    @abstractmethod
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        """Statistics of what a family made of a batch of reals: rows [B, ...], or what is ``sum_states``; on the CPU.

        Images are pixels, uint8 [B, C, H, W] (points: float), here and in the batch; logits are [B, classes].
        """

    def reference(self, batch: Batch) -> Statistics:
        """The same of the reals themselves."""
        raise NotImplementedError

    @abstractmethod
    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        """The scores of all fakes against all reals; ``<name>_sd`` is the spread of a score, if it has one."""

    @abstractmethod
    def protocol(self, score: str, n: int) -> dict[str, Any]:
        """What a value of this score over n images depends on, besides the images."""


class ModeCoverage(Metric):
    """The toy ring: how many modes got at least a quarter of their share, and how many points lie on a mode.

    A point lies on a mode within three standard deviations of its centre.

    Source: Srivastava et al. 2017 (arXiv 1705.07761), section 4.1.
    """

    def __init__(self) -> None:
        self.higher_is_better = {"modes_covered": True, "high_quality": True}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
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

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "points"}
