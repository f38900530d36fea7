"""Which measures a family has on a data set."""

from __future__ import annotations

from collections.abc import Sequence

from gan_lab.config.schema import MetricsConfig
from gan_lab.families.base import Family
from gan_lab.images import ImageSpec
from gan_lab.metrics import extractors, lpips
from gan_lab.metrics.base import Metric, ModeCoverage
from gan_lab.metrics.classification_accuracy_score import ClassificationAccuracyScore
from gan_lab.metrics.extractors.inception import missing
from gan_lab.metrics.feature_distance import FeatureDistance
from gan_lab.metrics.pairwise import ClassifierAccuracy, CodeAccuracy, Reconstruction, Translation


def measurable(measures: Sequence[Metric], reals: int, cfg: MetricsConfig) -> tuple[list[Metric], str]:
    """Those measures that there are enough reals for, and a line that says which are left out.

    Raises ValueError, before hours of training, if it is ``metrics.n`` that is too small for one.
    """
    kept, note = [], ""
    for measure in measures:
        name, remedy = measure.names[0], "metrics.allow_small_n=true computes it all the same"
        if measure.features and reals < 2:
            note = f"{name} is left out: one image has no distribution"
        elif measure.features <= min(cfg.n, reals) or cfg.allow_small_n:
            kept.append(measure)
        elif reals < measure.features:
            which = "are held out" if cfg.split == "held_out" else "are in the training set"
            note = f"{name} is left out: {reals} images {which}, fewer than its {measure.features} features, "
            note += f"which makes it meaningless; {remedy}"
        else:
            raise ValueError(
                f"metrics.n={cfg.n} is below the {measure.features} features of {name}, which makes it meaningless: "
                "raise it, or metrics.allow_small_n=true"
            )
    return kept, note


def measures_of(family: Family, spec: ImageSpec, cfg: MetricsConfig, full: bool = False) -> list[Metric]:
    """What is measured at every evaluation; ``full``: at the end. The first score of the first is the default headline.

    Raises ValueError for an extractor of ``metrics.extractors`` that does not exist or is not at hand.
    """
    output_names = family.output_names
    measures: list[Metric] = []
    if "logits" in output_names:
        measures.append(ClassifierAccuracy(output_names))
    if spec.source_channels and spec.pairs != "none":
        colours = spec.channels == 3 and spec.source_channels == 1
        measures.append(Translation(output_names, inside=spec.content == "horses", gray=colours))
        if full and lpips.at_hand(spec.height, spec.width):
            measures.append(lpips.LPIPS(output_names))
    if spec.content == "points":
        measures.append(ModeCoverage())
    for name in dict.fromkeys(cfg.extractors) or ([] if spec.content == "points" else [extractors.default(spec)]):
        if (name == "points") != (spec.content == "points"):
            raise ValueError(f"metrics.extractors={name}: points are of the toy, and the toy has no images")
        arguments = [_weights(cfg)] if name == "inception" else []
        asked = name == "digits" and spec.content == "digits" and family.conditional
        measures.append(FeatureDistance(extractors.load(name, *arguments), asked, cfg.max_features_kept, full))
    if full and family.conditional:
        measures.append(ClassificationAccuracyScore(spec.classes, cfg.max_features_kept))
    if "code_logits" in output_names and spec.classes:
        measures.append(CodeAccuracy())
    if "reconstructed" in output_names:
        measures.append(Reconstruction(spec.content == "digits"))
    return measures


def inception_measures(cfg: MetricsConfig, spec: ImageSpec, n: int) -> tuple[list[Metric], str]:
    """FID, KID, IS and the like, for the end, if their weights are at hand; and one line that says why not.

    Raises ValueError if ``metrics.inception_weights`` names a file that is not there or does not hold the weights.
    """
    if spec.content == "points" or "inception" in cfg.extractors:
        return [], ""
    skipped = "fid, kid and is skipped: "
    if cfg.inception_weights == "off":
        return [], skipped + "metrics.inception_weights=off"
    if n < 2048 and not cfg.allow_small_n:
        remedy = "metrics.allow_small_n=true computes them all the same"
        return [], f"{skipped}{n} images are fewer than the 2048 features, which makes a FID meaningless; {remedy}"
    if cfg.inception_weights == "auto" and missing():
        return [], skipped + missing()
    try:
        return [
            FeatureDistance(
                extractors.load("inception", cfg.inception_weights), False, cfg.max_features_kept, full=True
            )
        ], ""
    except ValueError as error:
        if cfg.inception_weights != "auto":
            raise
        return [], skipped + str(error)


def _weights(cfg: MetricsConfig) -> str:
    if cfg.inception_weights == "off":
        raise ValueError("metrics.extractors has inception, but metrics.inception_weights=off")
    return cfg.inception_weights
