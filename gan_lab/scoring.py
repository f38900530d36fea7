"""Score images from anywhere against reals: folders, files, arrays, loaders and data sets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab import device as devices
from gan_lab.config.extensions import explain_unknown_name
from gan_lab.metrics import extractors
from gan_lab.metrics.base import Statistics
from gan_lab.metrics.evaluator import library_versions
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.extractors.inception import WEIGHTS_REMEDY, explain_missing_weights
from gan_lab.metrics.feature_scores import explain_bias
from gan_lab.metrics.frechet import MIN_IMAGES_PER_FEATURE, frechet_distance, moments
from gan_lab.metrics.image_sets import ImageSet, share_levels
from gan_lab.metrics.inception_score import inception_score
from gan_lab.metrics.kernel import MIN_IMAGES as MIN_KERNEL_IMAGES
from gan_lab.metrics.kernel import describe_kernel, gaussian_kernel_distance, kernel_distance
from gan_lab.metrics.manifold import MIN_IMAGES as MIN_MANIFOLD_IMAGES
from gan_lab.metrics.manifold import SCORE_NAMES, describe_share, precision_recall_density_coverage
from gan_lab.runs.results import Score
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text
from gan_lab.utils.numbers import mean_and_spread
from gan_lab.utils.output import OutputFiles
from gan_lab.utils.track import track

METRICS = ("fid", "kid", "prdc", "is")
DEFAULT_METRICS = ("fid", "kid", "prdc")
DEFAULT_EXTRACTOR = "inception"
FALLBACK_EXTRACTOR = "lite0"
MIN_IMAGES = 2
# The time of precision and recall grows with the product of the numbers of images.
MAX_MANIFOLD_IMAGES = 10_000
# A note reports a real-vs-real reference above this fraction of a Fréchet distance.
MAX_REAL_VS_REAL_SHARE = 0.1
logger = logging.getLogger("gan_lab")


class Scores(Mapping[str, Score]):
    """Scores by name, such as ``scores["fid"].value``.

    Args:
        scores: The scores.
        notes: Notes for the user, such as a fallback or skipped metrics.
    """

    def __init__(self, scores: Mapping[str, Score], notes: Sequence[str] = ()) -> None:
        self._scores = dict(scores)
        self.notes = list(notes)

    def __getitem__(self, name: str) -> Score:
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        lines = []
        for name, score in self.items():
            reference = "" if score.reference is None else f"  (real-vs-real {score.reference:.4g})"
            lines.append(f"{name}: {mean_and_spread(score.value, score.spread, 4)}{reference}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON types, in the form of ``summary.json``."""
        entries: dict[str, Any] = {}
        for name, score in self.items():
            entry: dict[str, Any] = {
                "value": score.value,
                "higher_is_better": score.higher_is_better,
            }
            if score.spread is not None:
                entry["spread"] = score.spread
            if score.note:
                entry["note"] = score.note
            entries[name] = entry | {"protocol": score.protocol}
        return {"scores": entries, "notes": self.notes}

    def save(self, path: str | Path, overwrite: bool = True) -> None:
        """Write the scores to a JSON file.

        Args:
            path: The file.
            overwrite: Replace an earlier file of scores.

        Raises:
            UserError: The file cannot be written, or was not written by the lab.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        with OutputFiles(overwrite).write(Path(path).expanduser()) as unfinished:
            write_text(unfinished, text)


def score(
    fakes: Any,
    reals: Any,
    metrics: Sequence[str] = DEFAULT_METRICS,
    extractor: str | nn.Module | None = None,
    *,
    weights: str | Path | None = None,
    normalize: bool = False,
    reference: bool = True,
    batch_size: int = 100,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Scores:
    """Score fake images against real images.

    Fakes and reals can be a folder of images, a .zip file of images, an .npz file, an array, a
    tensor, a data set, or an iterable of batches such as a DataLoader; see ``ImageSet``. Both have
    the same size. Arrays are uint8 in [0, 255] or, with ``normalize``, floats in [0, 1].

    Each score has a real-vs-real reference: the score of every second real against the others, or,
    for the inception score, the score of all reals. A distance of half as many images is an upper
    bound of the score of a perfect generator.

    Args:
        fakes: The generated images.
        reals: The images to compare them with.
        metrics: Some of fid (Fréchet distance), kid (kernel distance), prdc (precision, recall,
            density, coverage) and is (inception score). The scores are named fid, kid and is only
            for Inception; for other extractors they are named fd_<extractor>, kd_<extractor> ...
        extractor: inception, lite0, lite0_mid, dinov2, clip, digits or random; or a module that
            maps uint8 images to features. None: inception, or lite0 if the weights of inception are
            not available.
        weights: File with the extractor's weights; required for dinov2 and clip.
        normalize: Whether float images in [0, 1] are accepted.
        reference: Whether to compute the real-vs-real reference.
        batch_size: Images that the extractor processes at a time.
        device: Device of the extractor; None: a GPU if there is one.
        progress: Whether to show progress bars on a terminal.

    Returns:
        The scores by name: ``scores["fid"].value``.

    Raises:
        UserError: A metric or an extractor is unknown or not available, images cannot be read,
            differ in size or are fewer than two, or none of the metrics can be computed.
    """
    metrics = _check_metrics(metrics)
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is out of range. Pass at least 1.")
    notes: list[str] = []
    chosen = _choose_extractor(extractor, weights, notes)
    if "is" in metrics and chosen.score is None:
        if metrics == ["is"]:
            raise UserError(
                f"is needs class logits, which the extractor {chosen.name} lacks. Use inception or "
                "digits."
            )
        metrics.remove("is")
        notes.append(
            f"Skipping is: the extractor {chosen.name} has no class logits. Use inception or "
            "digits."
        )
    for note in notes:
        logger.warning(note)

    target = torch.device(device) if device is not None else devices.get_default_device()
    real_set = ImageSet(reals, "reals", batch_size, normalize)
    fake_set = ImageSet(fakes, "fakes", batch_size, normalize)
    share_levels(real_set, fake_set)
    real = _extract(real_set, chosen, metrics, target, progress, with_halves=reference)
    fake = _extract(fake_set, chosen, metrics, target, progress, with_halves=False)
    if real_set.shape[1:] != fake_set.shape[1:]:
        raise UserError(
            f"Fakes and reals differ in size: {fake_set.shape[1:]} and {real_set.shape[1:]} "
            "(height, width). Resize the larger ones."
        )

    protocol = {
        **chosen.protocol(),
        "reals": real.count,
        "fakes": fake.count,
        "reals_source": real_set.description,
        "fakes_source": fake_set.description,
        "shape": fake_set.shape,
        "versions": library_versions(),
    }
    values = _compute(chosen, metrics, real.features, fake.features)
    references: dict[str, _Value] = {}
    if reference:
        references = _compute(chosen, metrics, *real.halves())
        if chosen.score in values:
            references |= _compute(chosen, ["is"], real.features, real.features)
    if not values:
        raise UserError(
            f"Too few images for {', '.join(metrics)}: {fake.count} fakes and {real.count} reals. "
            "Pass more images."
        )
    # Some metrics need more images than others.
    missing = [
        metric for metric in metrics if not set(_score_names(chosen, metric)) & values.keys()
    ]
    if missing:
        note = (
            f"Skipping {', '.join(missing)}: {fake.count} fakes and {real.count} reals are too few."
        )
        notes.append(note)
        logger.warning(note)

    scores: dict[str, Score] = {}
    for name, value in values.items():
        details = protocol | value.protocol
        found = references.get(name)
        if found is not None:
            details["floor"] = found.value
            details["floor_images"] = _describe_reference(name == chosen.score, real)
        note = ""
        if name == chosen.distance:
            note = _explain_frechet(
                name, value.value, found, min(real.count, fake.count), real.features.width
            )
        if note:
            logger.warning(note)
        scores[name] = Score(value.value, value.spread, value.higher_is_better, details, note)
    return Scores(scores, notes)


def _check_metrics(metrics: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    if not chosen:
        raise UserError(f"No metrics to compute. Pass some of {', '.join(METRICS)}.")
    for name in chosen:
        if name not in METRICS:
            raise UserError(explain_unknown_name("metric", name, METRICS))
    return chosen


def _choose_extractor(
    extractor: str | nn.Module | None, weights: str | Path | None, notes: list[str]
) -> Extractor:
    """Load the extractor, or the fallback of the default one, which adds a note."""
    if extractor is not None or weights is not None:
        return extractors.resolve_extractor(extractor or DEFAULT_EXTRACTOR, weights)
    reason = explain_missing_weights()
    if not reason:
        try:
            return extractors.load(DEFAULT_EXTRACTOR)
        except UserError as error:
            # For example because the download failed.
            reason = str(error)
    remedy = "" if WEIGHTS_REMEDY in reason else f". {WEIGHTS_REMEDY}"
    notes.append(
        f"Using the extractor {FALLBACK_EXTRACTOR} (fd_{FALLBACK_EXTRACTOR}, not fid): "
        f"{reason}{remedy}"
    )
    return extractors.load(FALLBACK_EXTRACTOR)


class _Features:
    """Moments and rows of features and logits of a set of images."""

    def __init__(self) -> None:
        self.moments: Statistics = {}
        self.feature_rows: list[Tensor] = []
        self.logit_rows: list[Tensor] = []
        self.count = 0
        self.width = 0

    def add(self, features: Tensor, logits: Tensor | None, metrics: Sequence[str]) -> None:
        """Add a batch, keeping only the statistics that the metrics need."""
        self.count += len(features)
        self.width = features.shape[1]
        if "fid" in metrics:
            for name, value in moments(features).items():
                self.moments[name] = self.moments[name] + value if name in self.moments else value
        if "kid" in metrics or "prdc" in metrics:
            self.feature_rows.append(features)
        if "is" in metrics and logits is not None:
            self.logit_rows.append(logits)

    @property
    def features(self) -> Tensor:
        """All rows of features [N, D]."""
        return torch.cat(self.feature_rows)

    @property
    def logits(self) -> Tensor:
        """All rows of logits [N, classes]."""
        return torch.cat(self.logit_rows)


class _SetFeatures:
    """The features of a set of images and, for the reference, of its two halves.

    One half has the images at even indices, the other one those at odd indices.
    """

    def __init__(self, with_halves: bool) -> None:
        self.features = _Features()
        self._with_halves = with_halves
        self._even = _Features()
        self._odd = _Features()

    @property
    def count(self) -> int:
        """Number of images."""
        return self.features.count

    def add(self, features: Tensor, logits: Tensor | None, metrics: Sequence[str]) -> None:
        """Add a batch."""
        first_even = self.count % 2
        self.features.add(features, logits, metrics)
        if not self._with_halves:
            return
        halves = [metric for metric in metrics if metric != "is"]
        for half, start in ((self._even, first_even), (self._odd, 1 - first_even)):
            if len(features[start::2]):
                half.add(features[start::2], None, halves)

    def halves(self) -> tuple[_Features, _Features]:
        """Return the features of the images at even and at odd indices."""
        return self._even, self._odd


def _extract(
    images: ImageSet,
    extractor: Extractor,
    metrics: Sequence[str],
    target: torch.device,
    progress: bool,
    with_halves: bool,
) -> _SetFeatures:
    found = _SetFeatures(with_halves)
    for batch in track(images, f"scoring {images.name}", shown=progress):
        features, logits = extractor(batch.to(target))
        found.add(features.cpu(), None if logits is None else logits.cpu(), metrics)
    if found.count < MIN_IMAGES:
        raise UserError(
            f"Too few {images.name}: {found.count} ({images.description}). Pass at least "
            f"{MIN_IMAGES} images."
        )
    return found


@dataclass(frozen=True)
class _Value:
    """A score with the part of its protocol that belongs to the metric."""

    value: float
    higher_is_better: bool
    spread: float | None
    protocol: dict[str, Any]


def _score_names(extractor: Extractor, metric: str) -> list[str]:
    if metric == "prdc":
        return [f"{share}_{extractor.name}" for share in SCORE_NAMES]
    return [
        {"fid": extractor.distance, "kid": extractor.kernel, "is": extractor.score or ""}[metric]
    ]


def _compute(
    extractor: Extractor, metrics: Sequence[str], real: _Features, fake: _Features
) -> dict[str, _Value]:
    """Compute the scores for which there are enough images."""
    n = min(real.count, fake.count)
    values: dict[str, _Value] = {}
    if "fid" in metrics and n >= MIN_IMAGES:
        value = frechet_distance(real.moments, fake.moments)
        values[extractor.distance] = _Value(value, False, None, {})
    if "kid" in metrics and n >= MIN_KERNEL_IMAGES:
        protocol = describe_kernel(n, extractor.sigma)
        if extractor.sigma:
            value, spread = (
                gaussian_kernel_distance(real.features, fake.features, extractor.sigma),
                None,
            )
        else:
            value, spread = kernel_distance(real.features, fake.features)
        values[extractor.kernel] = _Value(value, False, spread, protocol)
    if "prdc" in metrics and n >= MIN_MANIFOLD_IMAGES:
        shares = precision_recall_density_coverage(
            real.features[:MAX_MANIFOLD_IMAGES], fake.features[:MAX_MANIFOLD_IMAGES]
        )
        rows = min(n, MAX_MANIFOLD_IMAGES)
        for share, name in zip(SCORE_NAMES, _score_names(extractor, "prdc"), strict=True):
            values[name] = _Value(shares[share], True, None, describe_share(share, rows))
    if "is" in metrics and extractor.score and fake.logit_rows and fake.count >= extractor.splits:
        mean, deviation = inception_score(fake.logits, extractor.splits)
        spread = deviation if extractor.splits > 1 else None
        values[extractor.score] = _Value(mean, True, spread, {"splits": extractor.splits})
    return values


def _describe_reference(is_inception_score: bool, real: _SetFeatures) -> str:
    if is_inception_score:
        return f"all {real.count:,} reals"
    even, odd = real.halves()
    return f"two halves of the reals, every second image: {even.count:,} against {odd.count:,}"


def _explain_frechet(
    name: str, value: float, reference: _Value | None, images: int, features: int
) -> str:
    """Explain why a Fréchet distance may be mostly bias; empty if it is not."""
    if images < MIN_IMAGES_PER_FEATURE * features:
        return f"{name}: {explain_bias(images, features)} Prefer the kernel distance (kid)."
    if reference is not None and reference.value > MAX_REAL_VS_REAL_SHARE * value:
        return (
            f"{name}: the real-vs-real score is {reference.value:.3g}, more than 10% of this "
            "value; sample-size bias matters here."
        )
    return ""
