"""All scores that use the features of one extractor, from a single pass over the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics import extractors
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.frechet import MIN_IMAGES_PER_FEATURE, frechet_distance, moments
from gan_lab.metrics.inception_score import inception_score
from gan_lab.metrics.kernel import (
    MIN_IMAGES,
    describe_kernel,
    gaussian_kernel_distance,
    kernel_distance,
)
from gan_lab.metrics.manifold import MIN_IMAGES as MIN_MANIFOLD_IMAGES
from gan_lab.metrics.manifold import SCORE_NAMES, describe_share, precision_recall_density_coverage
from gan_lab.utils.errors import UserError
from gan_lab.utils.score_names import TRIVIAL_GENERATORS


class FeatureScores(Metric):
    """Fréchet distance, kernel distance, inception score, precision, recall, density and coverage.

    The Fréchet distance is computed from sums over the batches. It is biased upward for few images,
    so with fewer than ten images per feature the unbiased kernel distance replaces it. The kernel
    distance and the scores of ``final`` need rows of features and keep up to ``cap`` of them.

    Args:
        extractor: The feature extractor.
        conditions: Whether the extractor's classes are the labels that the generator is
            conditioned on. If so, the extractor's accuracy on the fakes is a score.
        cap: Number of rows of features to keep, the first ones.
        final: Whether to add the kernel distance, precision, recall, density and coverage. The
            latter four need six images or more.
        frechet: Whether to compute the Fréchet distance; False: the kernel distance instead.
    """

    priority = 50
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "fid": Explanation(
            "Fréchet Inception distance (FID)",
            "Distance between the means and covariances of Inception features of generated and of "
            "real images",
            False,
            "0 or more; below 10 on large photo sets, and biased upward for few images",
        ),
        "fd_*": Explanation(
            "Fréchet distance",
            "Distance between the means and covariances of an extractor's features of generated "
            "and of real images",
            False,
            "0 or more; the real-vs-real reference is what a perfect generator would reach",
        ),
        "kid": Explanation(
            "Kernel Inception distance (KID)",
            "Difference of the distributions of Inception features, without the bias of FID for "
            "few images",
            False,
            "about 0 or more; near 0, also slightly negative, if no difference is detected",
        ),
        "cmmd": Explanation(
            "CLIP maximum mean discrepancy (CMMD)",
            "Difference of the distributions of CLIP features under a Gaussian kernel, times 1,000",
            False,
            "about 0 or more; near 0 if no difference is detected",
        ),
        "kd_*": Explanation(
            "Kernel distance",
            "Difference of the distributions of an extractor's features, unbiased for few images",
            False,
            "about 0 or more; near 0, also slightly negative, if no difference is detected",
        ),
        "is": Explanation(
            "Inception score",
            "High if each image is assigned to one class with confidence, and all classes are "
            "equally frequent; real images are not used",
            True,
            "1 to the number of classes",
        ),
        "digit_score": Explanation(
            "Digit score",
            "Inception score of a digit classifier: high if each image is a clear digit, and all "
            "digits are equally frequent",
            True,
            "1 to 10",
        ),
        "label_accuracy": Explanation(
            "Label accuracy",
            "Share of generated digits that a classifier recognizes as the requested class",
            True,
            "0 to 1; 0.1 by chance",
        ),
        "precision_*": Explanation(
            "Precision",
            "Share of generated images that lie among the real ones in feature space: realism",
            True,
            "0 to 1; noisy if images are few",
        ),
        "recall_*": Explanation(
            "Recall",
            "Share of real images that lie among the generated ones in feature space: diversity",
            True,
            "0 to 1; noisy if images are few",
        ),
        "density_*": Explanation(
            "Density",
            "Number of real neighborhoods that contain a generated image, relative to the number "
            "expected: realism that outliers inflate less",
            True,
            "0 or more; about 1 for real images",
        ),
        "coverage_*": Explanation(
            "Coverage",
            "Share of real images whose neighborhood contains a generated image: diversity",
            True,
            "0 to 1; about 0.97 for real images",
        ),
    }
    sum_states = frozenset(("count", "sum", "outer"))
    limited_states = frozenset(("features",))

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        spec, cfg = setting.spec, setting.cfg
        points = spec.content == "points"
        if setting.smaller_count < MIN_IMAGES and not points:
            setting.notes.append(
                f"Skipping distances: {setting.smaller_count} images are fewer than {MIN_IMAGES}."
            )
            return []
        default_names = [] if points else [extractors.choose_default(spec)]
        created: list[Metric] = []
        for name in dict.fromkeys(cfg.extractors) or default_names:
            if (name == "points") != points:
                raise UserError(
                    f"metrics.extractors={name} does not suit {spec.content}. Use the extractor "
                    "points for the toy data, and any other one for images."
                )
            extractor = extractors.load(name, cfg)
            conditions = name == "digits" and spec.content == "digits" and setting.conditional
            enough = setting.smaller_count >= MIN_IMAGES_PER_FEATURE * extractor.features
            frechet = cfg.allow_small_n or enough or (setting.final and name == "inception")
            if not frechet:
                setting.notes.append(
                    f"Skipping {extractor.distance}: "
                    f"{explain_bias(setting.smaller_count, extractor.features)} Reporting "
                    f"{extractor.kernel} instead. Set metrics.allow_small_n=true to compute "
                    f"{extractor.distance} anyway."
                )
            created.append(
                cls(extractor, conditions, cfg.max_features_kept, setting.final, frechet)
            )
        if setting.final and not points and "inception" not in cfg.extractors:
            created += cls._create_inception(setting)
        return created

    @classmethod
    def _create_inception(cls, setting: Setting) -> list[Metric]:
        """Create FID, KID, IS and the others if Inception's weights are available; else add a note.

        FID is computed for any number of images, because papers report it despite the bias, and the
        real-vs-real reference is stored with it.

        Raises:
            UserError: ``metrics.inception_weights`` names a file that does not exist or does not
                contain the weights.
        """
        cfg = setting.cfg
        reason = ""
        if cfg.inception_weights == "off":
            reason = "metrics.inception_weights=off"
        elif cfg.inception_weights == "auto":
            # here, because it imports torch-fidelity and torchvision
            from gan_lab.metrics.extractors.inception import explain_missing_weights

            reason = explain_missing_weights()
        if not reason:
            try:
                extractor = extractors.load("inception", cfg)
                return [cls(extractor, False, cfg.max_features_kept, final=True)]
            except UserError as error:
                if cfg.inception_weights != "auto":
                    raise
                reason = str(error)
        setting.notes.append(f"Skipping fid, kid and is: {reason}")
        if cfg.inception_weights == "auto":
            setting.missing.append(setting.notes[-1])
        return []

    def __init__(
        self, extractor: Extractor, conditions: bool, cap: int, final: bool, frechet: bool = True
    ) -> None:
        self.extractor = extractor
        self.conditions = conditions
        self.cap = cap
        self.final = final
        self.frechet = frechet
        self.kernel = final or not frechet
        self.share_names = [f"{share}_{extractor.name}" for share in SCORE_NAMES]
        # The first score is the default of metrics.headline.
        higher: dict[str, bool | None] = {
            extractor.distance if frechet else extractor.kernel: False
        }
        if extractor.score:
            higher[extractor.score] = True
        if conditions:
            higher["label_accuracy"] = True
        if self.kernel:
            higher[extractor.kernel] = False
        if final:
            higher |= dict.fromkeys(self.share_names, True)
        self.higher_is_better = higher
        if final and extractor.name != "points":
            distances = [extractor.distance] if frechet else []
            self.trivial_names = tuple(
                f"{score}_of_{kind}"
                for score in (*distances, extractor.kernel)
                for kind in TRIVIAL_GENERATORS
            )
        self.extractor_protocol = extractor.protocol()
        self.reals_key = str(self.extractor_protocol)

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        features, logits = self.extractor(outputs["generated"])
        observed = moments(features.cpu())
        if self.kernel:
            observed["features"] = features.cpu()
        if self.extractor.score and logits is not None:
            observed["logits"] = logits.cpu()
        if self.conditions:
            assert logits is not None
            assert batch.labels is not None
            observed["correct"] = logits.argmax(dim=1).eq(batch.labels).cpu()
        return observed

    def update_real(self, batch: Batch) -> Statistics:
        features = self.extractor(batch.images)[0].cpu()
        return moments(features) | {"features": features}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        extractor = self.extractor
        values: dict[str, float] = {}
        if self.frechet:
            values[extractor.distance] = frechet_distance(real, fake)
        if extractor.score and len(fake["logits"]) >= extractor.splits:
            mean, spread = inception_score(fake["logits"], extractor.splits)
            values[extractor.score] = mean
            if extractor.splits > 1:
                values[f"{extractor.score}_sd"] = spread
        if "correct" in fake:
            values["label_accuracy"] = float(fake["correct"].double().mean())
        if self.kernel:
            values[extractor.kernel], kernel_spread = self._kernel_distance(real, fake["features"])
            if kernel_spread is not None:
                values[f"{extractor.kernel}_sd"] = kernel_spread
        if self.final and min(len(real["features"]), len(fake["features"])) >= MIN_MANIFOLD_IMAGES:
            shares = precision_recall_density_coverage(real["features"], fake["features"])
            values |= {
                name: shares[share]
                for name, share in zip(self.share_names, SCORE_NAMES, strict=True)
            }
        return values

    def trivial_scores(
        self, real: Statistics, known: Statistics, means: Statistics, repeats: Tensor
    ) -> dict[str, float]:
        n = int(repeats.sum())
        shown = min(n, self.cap)
        # known images repeat, unless there are enough of them
        replayed = known["features"][torch.arange(shown) % len(known["features"])]
        features = means["features"]
        rows = torch.arange(len(repeats)).repeat_interleave(repeats)
        averaged = features[rows[torch.linspace(0, n - 1, shown).long()]]
        moments_of = {
            "replay": repeat_moments(known, n),
            "mean_image": moments(features.repeat_interleave(repeats, dim=0)),
        }
        values: dict[str, float] = {}
        for kind, fake in zip(TRIVIAL_GENERATORS, (replayed, averaged), strict=True):
            if self.frechet:
                distance = frechet_distance(real, moments_of[kind])
                values[f"{self.extractor.distance}_of_{kind}"] = distance
            values[f"{self.extractor.kernel}_of_{kind}"] = self._kernel_distance(real, fake)[0]
        return values

    def _kernel_distance(self, real: Statistics, fake: Tensor) -> tuple[float, float | None]:
        """Compute the kernel distance to features of fakes [N, D], and its standard deviation."""
        if self.extractor.sigma:
            return gaussian_kernel_distance(real["features"], fake, self.extractor.sigma), None
        return kernel_distance(real["features"], fake)

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        rows = min(n, self.cap)
        for kind, description in TRIVIAL_GENERATORS.items():
            if score.endswith(f"_of_{kind}"):
                own = self.protocol(score.removesuffix(f"_of_{kind}"), n)
                return own | {"generator": description}
        if score == self.extractor.score:
            return self.extractor_protocol | {"splits": self.extractor.splits}
        if score == self.extractor.kernel:
            return self.extractor_protocol | describe_kernel(rows, self.extractor.sigma)
        if score in self.share_names:
            share = SCORE_NAMES[self.share_names.index(score)]
            return self.extractor_protocol | describe_share(share, rows)
        return self.extractor_protocol


def repeat_moments(part: Statistics, n: int) -> Statistics:
    """Return the ``moments`` of ``n`` images: each image in ``part`` occurs equally often."""
    factor = n / float(part["count"])
    # count * factor may be rounded to slightly less than n
    count = torch.full_like(part["count"], n)
    return {"count": count, "sum": part["sum"] * factor, "outer": part["outer"] * factor}


def explain_bias(images: int, features: int) -> str:
    """Explain why a Fréchet distance of few images is not meaningful."""
    return (
        f"{images:,} images are fewer than {MIN_IMAGES_PER_FEATURE} per feature ({features:,} "
        "features), so the estimate would be mostly bias."
    )


METRIC = FeatureScores
