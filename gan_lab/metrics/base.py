"""The contract of a metric: statistics of each batch first, scores of all of them at the end.

A metric is one file of this folder with ``METRIC``, a class, in it; or such a module of anyone's own, in
``metrics.include``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gan_lab.config.schema import MetricsConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics.formulas import Statistics

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule
    from gan_lab.data.reference import Reference


@dataclass
class Setting:
    """Facts that metrics may ask for before they are made: about the family, the data and the configuration."""

    spec: ImageSpec
    cfg: MetricsConfig
    output_names: tuple[str, ...] = ("generated",)  # what Family.outputs() holds
    conditional: bool = False  # whether a fake shows the label of its real
    split: str = "test"  # the reals: of train, validation or test
    reals: int = 0  # how many of them
    fakes: int = 0  # how many
    final: bool = False  # at the end of a training, where scores may take longer
    notes: list[str] = field(default_factory=list)  # why scores are left out, for the user

    @property
    def least(self) -> int:
        """The smaller number of reals and fakes."""
        return min(self.reals, self.fakes)


class Metric(ABC):
    """Some scores that are made in one go.

    The names of ``higher_is_better`` and ``compute`` are torchmetrics'.
    """

    priority: ClassVar[int] = 100  # the first score of the metric with the lowest is the default of metrics.headline
    # of each score, the default headline first; None: more of it is neither better nor worse
    higher_is_better: Mapping[str, bool | None]
    sum_states: frozenset[str] = frozenset()  # statistics to be added over the batches; of others the rows are kept
    limited_states: frozenset[str] = frozenset()  # rows of which no more than metrics.max_features_kept are kept
    needs_reals: bool = False  # whether it looks at the real that a fake was made for; then it has one fake for each
    own_best: Mapping[
        str, bool
    ] = {}  # yardsticks that are reported at their own best iteration: whether higher is better
    floor_names: Mapping[str, str] = {}  # of scores whose value of reals is a score of its own: its name
    baseline_names: tuple[str, ...] = ()  # of ``baselines``
    reals_key: str = ""  # what the statistics of the reals depend on besides the reals; empty: it needs none

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        """True if there is something to measure in this setting."""
        return True

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        """The metric for a setting that it applies to; some are made several times, for several extractors.

        Raises ValueError for a configuration that cannot be met.
        """
        return [cls()]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores."""
        return tuple(self.higher_is_better)

    @abstractmethod
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        """Statistics of what a family made of a batch of reals: rows [B, ...], or ``sum_states``; on the CPU.

        Images are pixels, uint8 [B, C, H, W] (points: float), here and in the batch; logits are [B, classes].
        """

    def update_real(self, batch: Batch) -> Statistics:
        """The same of the reals themselves."""
        raise NotImplementedError

    @abstractmethod
    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        """The scores of all fakes against all reals; ``<name>_sd`` is the spread of a score, if it has one."""

    def baselines(self, data: GANDataModule, reals: Reference) -> dict[str, float]:
        """Scores of no learning on these reals, by ``baseline_names``: what a score must beat to mean anything."""
        return {}

    @abstractmethod
    def protocol(self, score: str, n: int) -> dict[str, Any]:
        """Describe what a value of this score over n images, the fewer of reals and fakes, depends on besides them."""
