"""Measure what extractors and measures make of disturbed images, against real images in their place."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
from gan_lab.sensitivity.distortions import DISTURBANCES, Disturbance, disturbed, order
from gan_lab.utils.errors import UserError

NULL, REPEATS = 60, 20  # divisions of the images: of undisturbed ones, and of each dose
TAIL, SURE = (
    0.025,
    0.9,
)  # a dose is told where so many repeats lie beyond one tail of the undisturbed
POOL = 300  # images, of which each repeat takes 2 n; all of 2 n where these are more
FEWEST = 12  # images, of which half can be compared with half
logger = logging.getLogger("gan_lab")


@dataclass
class Answer:
    """One measure of one extractor, asked about a disturbance."""

    extractor: str
    measure: str
    disturbance: Disturbance
    # of each dose the mean over the repeats, in standard deviations of the undisturbed from their mean
    deviations: list[float] = field(default_factory=list)
    told: list[bool] = field(default_factory=list)  # of each dose

    @property
    def judge(self) -> str:
        """Name of the score."""
        return f"{self.measure}_{self.extractor}"

    @property
    def smallest(self) -> int | None:
        """The smallest dose from which on every dose is told; None if the largest is not."""
        kept = None
        for dose, told in zip(reversed(self.disturbance.doses), reversed(self.told), strict=True):
            if not told:
                break
            kept = dose
        return kept


@dataclass(frozen=True)
class Judgement:
    """All answers on a data set, of n fakes against n reals."""

    data: str
    n: int
    answers: list[Answer]
    notes: list[str]

    @property
    def judges(self) -> list[str]:
        """Each extractor with each measure."""
        return list(dict.fromkeys(answer.judge for answer in self.answers))

    @property
    def disturbances(self) -> list[Disturbance]:
        """Those that were given."""
        return list(
            {answer.disturbance.name: answer.disturbance for answer in self.answers}.values()
        )

    def of(self, judge: str, disturbance: str) -> Answer:
        """One answer."""
        return next(
            one
            for one in self.answers
            if one.judge == judge and one.disturbance.name == disturbance
        )


def judge(
    data: GANDataModule, n: int, wanted: list[str], cfg: MetricsConfig | None = None
) -> Judgement:
    """The answers of the extractors ``wanted``, or of all that suit the images and are at hand, to all disturbances.

    Fakes and reals are images of the data set, held-out ones too where others do not suffice, never the same ones in a
    repeat; of fewer than 2 n images half are compared with half. Raises UserError for fewer than ``FEWEST`` images, for
    points, and for extractors that are not there.
    """
    if data.spec.content == "points":
        raise UserError(
            f"data.name={data.cfg.name}: points are no images, there is nothing to disturb"
        )
    pixels, labels = _pool(data, max(2 * n, POOL))
    if len(pixels) < FEWEST:
        raise UserError(
            f"{len(pixels)} images are too few to judge by: at least {FEWEST} are needed"
        )
    notes = (
        []
        if 2 * n <= len(pixels)
        else [f"n is {len(pixels) // 2}, not {n}: there are {len(pixels):,} images"]
    )
    n = min(n, len(pixels) // 2)
    given = [one for one in DISTURBANCES if labels is not None or not one.needs_labels]
    given = [_fitting(one, labels) for one in given]
    answers: list[Answer] = []
    for extractor in _at_hand(data, wanted, cfg or MetricsConfig(), notes):
        logger.info(f"{extractor.name}: {len(pixels):,} images, {len(given)} disturbances")
        answers += _answers(extractor, pixels, labels, n, given)
    return Judgement(data.cfg.name, n, answers, notes)


def _pool(data: GANDataModule, wanted: int) -> tuple[Tensor, np.ndarray | None]:
    """Pixels uint8 [N, C, H, W] of so many images, or of all there are, and their labels [N] where they have several."""
    parts: list[Reference] = []
    for split in ("learned", "validation", "test") if data.divided else ("learned", "test"):
        left = wanted - sum(len(part.rows) for part in parts)
        parts += [data.reference(left, split=split)] if left > 0 else []
    pixels = torch.cat([to_uint8(batch.images) for part in parts for batch in part])
    return pixels, np.concatenate(
        [part.labels for part in parts]
    ) if data.spec.classes > 1 else None


def _fitting(disturbance: Disturbance, labels: np.ndarray | None) -> Disturbance:
    """Without doses that take more classes than there are."""
    if not disturbance.needs_labels or labels is None:
        return disturbance
    most = len(np.unique(labels)) - 1
    kept = tuple(dose for dose in disturbance.doses if dose <= most)
    return replace(disturbance, doses=kept)


def _at_hand(
    data: GANDataModule, wanted: list[str], cfg: MetricsConfig, notes: list[str]
) -> Iterator[Extractor]:
    for name in wanted or extractors.names():
        if name == "points" or (name == "digits" and data.spec.content != "digits" and not wanted):
            continue
        try:
            yield extractors.load(name, cfg)
        except ValueError as error:
            if wanted:
                raise
            notes.append(f"{name} is left out: {error}")


def _answers(
    extractor: Extractor,
    pixels: Tensor,
    labels: np.ndarray | None,
    n: int,
    given: list[Disturbance],
) -> list[Answer]:
    clean = _features(extractor, pixels)
    measures = Measures(
        clean, frechet=n >= MIN_IMAGES_PER_FEATURE * extractor.features, sigma=extractor.sigma
    )
    orders = [order(repeat, len(pixels)) for repeat in range(NULL)]
    null = _table([measures(clean, rows[:n], rows[n : 2 * n]) for rows in orders])
    answers: list[Answer] = []
    for disturbance in given:
        each = {name: Answer(extractor.name, name, disturbance) for name in null}
        for dose in disturbance.doses:
            changed = disturbance.change is not None
            spoiled = (
                _features(extractor, disturbed(pixels, disturbance, dose)) if changed else clean
            )
            measures.prepare(spoiled)
            found = []
            for rows in orders[:REPEATS]:
                reals, fakes = rows[:n], rows[n : 2 * n]
                if disturbance.choose:
                    fakes = disturbance.choose(fakes, reals, labels, dose)
                found.append(measures(spoiled, reals, fakes))
            for name, values in _table(found).items():
                each[name].deviations.append(
                    float((values.mean() - null[name].mean()) / (null[name].std() + 1e-12))
                )
                each[name].told.append(is_told(values, null[name]))
        answers += each.values()
    return answers


def is_told(values: np.ndarray, null: np.ndarray) -> bool:
    """True if most values lie beyond one and the same tail of those of undisturbed images."""
    low, high = np.quantile(null, [TAIL, 1 - TAIL])
    return bool(max((values > high).mean(), (values < low).mean()) >= SURE)


def _table(found: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([values[name] for values in found]) for name in found[0]}


def _features(extractor: Extractor, pixels: Tensor) -> Tensor:
    return torch.cat([extractor(block)[0].double().cpu() for block in pixels.split(100)])


class Measures:
    """Kernel distance, precision, recall, density and coverage of rows of features; Fréchet distance where there are enough.

    The kernel distance is of all n images at once, the unbiased estimator whose mean over subsets a score is.
    """

    def __init__(self, clean: Tensor, frechet: bool, sigma: float | None = None) -> None:
        self.clean, self.frechet, self.sigma = clean, frechet, sigma
        self.among_clean = self._kernel(clean, clean)
        self.prepare(clean)

    def prepare(self, fakes: Tensor) -> None:
        """Remember the kernel between all fakes, and to the reals: the repeats only choose rows of it."""
        self.among_fakes = self._kernel(fakes, fakes)
        self.between = self._kernel(self.clean, fakes)

    def __call__(self, spoiled: Tensor, reals: np.ndarray, fakes: np.ndarray) -> dict[str, float]:
        """The values of some rows of ``prepare``'s fakes against some of the reals."""
        real, fake = self.clean[reals], spoiled[fakes]
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
