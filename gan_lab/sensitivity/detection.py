"""Measure how scores respond to distorted images, relative to their real-vs-real reference."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from gan_lab.config.schema import MetricsConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.reference import Reference
from gan_lab.images import to_uint8
from gan_lab.metrics import extractors
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.frechet import MIN_IMAGES_PER_FEATURE, frechet_distance, moments
from gan_lab.metrics.kernel import gaussian_kernel, polynomial_kernel, squared_mmd
from gan_lab.metrics.manifold import precision_recall_density_coverage
from gan_lab.sensitivity.distortions import (
    DISTORTIONS,
    Distortion,
    apply_distortion,
    make_random_order,
)
from gan_lab.utils.errors import UserError
from gan_lab.utils.track import track

# Random splits into fakes and reals: of undistorted images, and for each severity.
NULL_REPEATS, DISTORTED_REPEATS = 60, 20
# A severity is detected if this share of its repeats is beyond one tail of the undistorted images.
TAIL_QUANTILE, MIN_DETECTED_SHARE = 0.025, 0.9
# Each repeat takes 2 n of at least this many images.
MIN_POOL_IMAGES = 300
MIN_IMAGES = 12
logger = logging.getLogger("gan_lab")


@dataclass
class DetectionResult:
    """Response of one score to one distortion.

    Attributes:
        extractor: Name of the feature extractor.
        measure: Name of the measure, such as "kd".
        distortion: The distortion.
        deviations: For each severity, the mean over the repeats minus the mean of undistorted
            images, in standard deviations of the latter.
        detected: Whether each severity is detected.
    """

    extractor: str
    measure: str
    distortion: Distortion
    deviations: list[float] = field(default_factory=list)
    detected: list[bool] = field(default_factory=list)

    @property
    def score(self) -> str:
        """Name of the score."""
        return f"{self.measure}_{self.extractor}"

    @property
    def threshold(self) -> int | None:
        """The smallest severity from which all are detected; None if the largest is not."""
        threshold = None
        by_severity = zip(self.distortion.severities, self.detected, strict=True)
        for severity, is_severity_detected in reversed(list(by_severity)):
            if not is_severity_detected:
                break
            threshold = severity
        return threshold


@dataclass(frozen=True)
class SensitivityReport:
    """The results on a data set, for n fakes against n reals."""

    data: str
    n: int
    results: list[DetectionResult]
    notes: list[str]

    @property
    def scores(self) -> list[str]:
        """The names of the scores: each measure of each extractor."""
        return list(dict.fromkeys(result.score for result in self.results))

    @property
    def distortions(self) -> list[Distortion]:
        """The distortions that were applied."""
        return list({each.distortion.name: each.distortion for each in self.results}.values())

    def get_result(self, score: str, distortion: str) -> DetectionResult:
        """Return the result of a score for a distortion."""
        for result in self.results:
            if result.score == score and result.distortion.name == distortion:
                return result
        raise KeyError(f"{score}, {distortion}")


def measure_sensitivity(
    data: GANDataModule,
    n: int,
    wanted: list[str],
    cfg: MetricsConfig | None = None,
    distortions: Sequence[Distortion] = DISTORTIONS,
) -> SensitivityReport:
    """Measure the response of scores to every distortion.

    Fakes and reals are disjoint images of the data set in each repeat. With fewer than 2 n images,
    n is half of them.

    Args:
        data: The data set. Held-out images are used if there are too few training images.
        n: Number of fakes, and of reals.
        wanted: Names of the extractors; empty: all that suit the images and are installed.
        cfg: The keys under ``metrics:``.
        distortions: The distortions; those that do not apply to the data are left out.

    Raises:
        UserError: The data are points or fewer than ``MIN_IMAGES`` images, or an extractor is not
            available.
    """
    if data.spec.content == "points":
        raise UserError(
            f"data.name={data.cfg.name} has points, not images. Use a data set of images."
        )
    pixels, labels = _collect_pixels(data, max(2 * n, MIN_POOL_IMAGES))
    if len(pixels) < MIN_IMAGES:
        raise UserError(
            f"Too few images to measure sensitivity: {len(pixels)}. At least {MIN_IMAGES} are "
            "needed."
        )
    notes = []
    if 2 * n > len(pixels):
        notes.append(f"n is {len(pixels) // 2}, not {n}: there are {len(pixels):,} images")
    n = min(n, len(pixels) // 2)
    applied = [
        _limit_to_classes(distortion, labels)
        for distortion in distortions
        if (labels is not None or not distortion.needs_labels)
        and (data.spec.content == "digits" or not distortion.needs_digits)
    ]
    results: list[DetectionResult] = []
    for extractor in _load_extractors(data, wanted, cfg or MetricsConfig(), notes):
        logger.info(
            f"Measuring {extractor.name}: {len(pixels):,} images, {len(applied)} distortions"
        )
        results += _measure_extractor(extractor, pixels, labels, n, applied)
    return SensitivityReport(data.cfg.name, n, results, notes)


def _collect_pixels(data: GANDataModule, wanted: int) -> tuple[Tensor, np.ndarray | None]:
    """Return up to ``wanted`` images uint8 [N, C, H, W], and labels [N] if there are classes."""
    parts: list[Reference] = []
    for split in ("learned", "validation", "test") if data.divided else ("learned", "test"):
        left = wanted - sum(len(part.rows) for part in parts)
        if left > 0:
            parts.append(data.reference(left, split=split))
    pixels = torch.cat([to_uint8(batch.images) for part in parts for batch in part])
    labels = None
    if data.spec.classes > 1:
        labels = np.concatenate([part.labels for part in parts])
    return pixels, labels


def _limit_to_classes(distortion: Distortion, labels: np.ndarray | None) -> Distortion:
    """Remove severities that drop more classes than there are."""
    if not distortion.needs_labels or labels is None:
        return distortion
    max_severity = len(np.unique(labels)) - 1
    kept = tuple(severity for severity in distortion.severities if severity <= max_severity)
    return replace(distortion, severities=kept)


def _load_extractors(
    data: GANDataModule, wanted: list[str], cfg: MetricsConfig, notes: list[str]
) -> Iterator[Extractor]:
    for name in wanted or extractors.list_extractors():
        if name == "points" or (name == "digits" and data.spec.content != "digits" and not wanted):
            continue
        try:
            yield extractors.load(name, cfg)
        except ValueError as error:
            if wanted:
                raise
            notes.append(f"Skipping {name}: {error}")


def _measure_extractor(
    extractor: Extractor,
    pixels: Tensor,
    labels: np.ndarray | None,
    n: int,
    distortions: list[Distortion],
) -> list[DetectionResult]:
    clean = _extract(extractor, pixels)
    has_frechet = n >= MIN_IMAGES_PER_FEATURE * extractor.features
    measures = Measures(clean, frechet=has_frechet, sigma=extractor.sigma)
    orders = [make_random_order(repeat, len(pixels)) for repeat in range(NULL_REPEATS)]
    null = _stack_values([measures(clean, rows[:n], rows[n : 2 * n]) for rows in orders])
    results: list[DetectionResult] = []
    for distortion in track(distortions, f"measuring {extractor.name}"):
        by_measure = {name: DetectionResult(extractor.name, name, distortion) for name in null}
        for severity in distortion.severities:
            distorted = clean
            if distortion.change is not None:
                distorted = _extract(extractor, apply_distortion(pixels, distortion, severity))
            measures.prepare(distorted)
            repeats = []
            for rows in orders[:DISTORTED_REPEATS]:
                reals, fakes = rows[:n], rows[n : 2 * n]
                if distortion.choose:
                    fakes = distortion.choose(fakes, reals, labels, severity)
                repeats.append(measures(distorted, reals, fakes))
            for name, values in _stack_values(repeats).items():
                deviation = (values.mean() - null[name].mean()) / (null[name].std() + 1e-12)
                by_measure[name].deviations.append(float(deviation))
                by_measure[name].detected.append(is_detected(values, null[name]))
        results += by_measure.values()
    return results


def is_detected(values: np.ndarray, null: np.ndarray) -> bool:
    """Return True if most values are beyond the same tail of the values of undistorted images."""
    low, high = np.quantile(null, [TAIL_QUANTILE, 1 - TAIL_QUANTILE])
    return bool(max((values > high).mean(), (values < low).mean()) >= MIN_DETECTED_SHARE)


def _stack_values(repeats: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([values[name] for values in repeats]) for name in repeats[0]}


def _extract(extractor: Extractor, pixels: Tensor) -> Tensor:
    return torch.cat([extractor(block)[0].double().cpu() for block in pixels.split(100)])


class Measures:
    """Kernel distance, precision, recall, density and coverage; optionally the Fréchet distance.

    The kernel distance is over all n images at once, the unbiased estimator. A score is the mean of
    this estimator over subsets.
    """

    def __init__(self, clean: Tensor, frechet: bool, sigma: float | None = None) -> None:
        self.clean = clean
        self.frechet = frechet
        self.sigma = sigma
        self.among_clean = self._kernel(clean, clean)
        self.prepare(clean)

    def prepare(self, fakes: Tensor) -> None:
        """Cache the kernels among all fakes and to the reals; the repeats select rows."""
        self.among_fakes = self._kernel(fakes, fakes)
        self.between = self._kernel(self.clean, fakes)

    def __call__(self, distorted: Tensor, reals: np.ndarray, fakes: np.ndarray) -> dict[str, float]:
        """Compute the measures of some rows of the prepared fakes against some of the reals."""
        real, fake = self.clean[reals], distorted[fakes]
        values = {"kd": self._distance(torch.from_numpy(reals), torch.from_numpy(fakes))}
        if self.frechet:
            values["fd"] = frechet_distance(moments(real), moments(fake))
        return values | precision_recall_density_coverage(real, fake)

    def _kernel(self, x: Tensor, y: Tensor) -> Tensor:
        return polynomial_kernel(x, y) if self.sigma is None else gaussian_kernel(x, y, self.sigma)

    def _distance(self, reals: Tensor, fakes: Tensor) -> float:
        return squared_mmd(
            self.among_clean[reals][:, reals],
            self.among_fakes[fakes][:, fakes],
            self.between[reals][:, fakes],
        )
