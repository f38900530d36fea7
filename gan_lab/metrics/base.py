"""The contract of a metric: statistics of each batch first, scores of all batches at the end.

A metric is a file of this folder that defines the class ``METRIC``, or a user's module that is
listed in ``metrics.include``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gan_lab.config.schema import MetricsConfig
from gan_lab.degradations import Degradation
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics.explanations import Explanation

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule
    from gan_lab.data.reference import Reference

# What a metric stores of one batch or of all batches, by name.
Statistics = dict[str, Tensor]


@dataclass
class Setting:
    """Facts about family, data and configuration that decide which metrics apply.

    Attributes:
        spec: Description of the images.
        cfg: The keys under ``metrics:``.
        output_names: Keys of ``Family.outputs()``.
        conditional: Whether fake i has the label of real i.
        split: The split that the reals are from: train, validation or test.
        reals: Number of reals.
        fakes: Number of fakes.
        final: Whether this is the evaluation at the end of training, where scores may take longer.
        augment: The discriminator augmentation of the training.
        degradation: How the inputs of a translation are made from the images.
        notes: Reasons for skipped scores, shown to the user.
        missing: Those of the notes that are about weights that could be installed.
    """

    spec: ImageSpec
    cfg: MetricsConfig
    output_names: tuple[str, ...] = ("generated",)
    conditional: bool = False
    split: str = "test"
    reals: int = 0
    fakes: int = 0
    final: bool = False
    augment: str = "off"
    degradation: Degradation = field(default_factory=Degradation)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def smaller_count(self) -> int:
        """The number of reals or of fakes, whichever is smaller."""
        return min(self.reals, self.fakes)


class Metric(ABC):
    """One or more scores that are computed from the same statistics.

    ``higher_is_better`` and ``compute`` have the names of torchmetrics.

    Attributes:
        priority: The first score of the metric with the lowest priority is the default of
            ``metrics.headline``.
        higher_is_better: Direction of each score, the default headline first; None: a score without
            a direction.
        sum_states: Statistics that are summed over the batches; the rows of all others are kept.
        limited_states: Statistics that keep up to ``metrics.max_features_kept`` rows.
        needs_reals: Whether each fake is compared with the real that it was generated for, so that
            there is one fake for each real.
        own_best: Baselines that are reported at their own best iteration, with their direction.
        reference_names: Names under which real-vs-real references are stored as scores, by score.
        baseline_names: Names of the scores of ``baselines``.
        explanations: The explanation of each score, also of ``reference_names`` and baselines. In a
            name, ``*`` stands for an extractor or for ``back_``.
        trivial_names: Names of the scores of ``trivial_scores``.
        reals_key: What the statistics of the reals depend on in addition to the images; empty: the
            metric has no statistics of reals.
    """

    priority: ClassVar[int] = 100
    explanations: ClassVar[Mapping[str, Explanation]] = {}
    higher_is_better: Mapping[str, bool | None]
    sum_states: frozenset[str] = frozenset()
    limited_states: frozenset[str] = frozenset()
    needs_reals: bool = False
    own_best: Mapping[str, bool] = {}
    reference_names: Mapping[str, str] = {}
    baseline_names: tuple[str, ...] = ()
    trivial_names: tuple[str, ...] = ()
    reals_key: str = ""

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        """Return True if there is something to measure in this setting."""
        return True

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        """Create the metric for a setting that it applies to, for some metrics once per extractor.

        Raises:
            UserError: The configuration asks for something that is not available.
        """
        return [cls()]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores."""
        return tuple(self.higher_is_better)

    @abstractmethod
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        """Compute the statistics of a family's outputs for a batch of reals, on the CPU.

        Args:
            outputs: Images as uint8 [B, C, H, W] (points as float), logits as [B, classes].
            batch: The reals, also as uint8.

        Returns:
            Rows [B, ...], or ``sum_states``.
        """

    def update_real(self, batch: Batch) -> Statistics:
        """Compute the statistics of a batch of reals."""
        raise NotImplementedError

    @abstractmethod
    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        """Compute the scores of all fakes against all reals.

        Returns:
            Values by name; ``<name>_sd`` is the standard deviation of a score.
        """

    def baselines(self, data: GANDataModule, reals: Reference) -> dict[str, float]:
        """Compute the scores of trivial solutions on these reals, by ``baseline_names``."""
        return {}

    def trivial_scores(
        self, real: Statistics, known: Statistics, means: Statistics, repeats: Tensor
    ) -> dict[str, float]:
        """Compute the scores of generators that only know the images that a model learns from.

        Args:
            real: Statistics of the reals.
            known: Statistics of the images that the model learns from, as fakes.
            means: Statistics of their mean image, or of the K mean images of their classes.
            repeats: How often each of the mean images is shown, int64 [K].

        Returns:
            Values by ``trivial_names``.
        """
        return {}

    @abstractmethod
    def protocol(self, score: str, n: int) -> dict[str, Any]:
        """Describe everything that a score over n images depends on, except for these images.

        Args:
            score: Name of the score.
            n: The number of reals or of fakes, whichever is smaller.
        """
