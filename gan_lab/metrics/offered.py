"""Which measures a family has on a data set."""

from __future__ import annotations

from collections.abc import Sequence

from gan_lab.families.base import Family
from gan_lab.images import ImageSpec
from gan_lab.metrics.measures import Digits, Measure, Points
from gan_lab.metrics.pairwise import Classification, Reconstruction, Translation
from gan_lab.metrics.random import Random
from gan_lab.schema import MetricsConfig


def measurable(measures: Sequence[Measure], held_out: int, cfg: MetricsConfig) -> tuple[list[Measure], str]:
    """Those measures that enough images are held out for, and a line that says which are left out.

    Raises ValueError, before hours of training, if it is ``metrics.n`` that is too small for one.
    """
    kept, note = [], ""
    for measure in measures:
        name, remedy = measure.names[0], "metrics.allow_small_n=true computes it all the same"
        if measure.features <= min(cfg.n, held_out) or cfg.allow_small_n:
            kept.append(measure)
        elif held_out < measure.features:
            note = f"{name} is left out: {held_out} images are held out, fewer than its {measure.features} features, "
            note += f"which makes it meaningless; {remedy}"
        else:
            raise ValueError(
                f"metrics.n={cfg.n} is below the {measure.features} features of {name}, which makes it meaningless: "
                "raise it, or metrics.allow_small_n=true"
            )
    return kept, note


def measures_of(family: Family, spec: ImageSpec) -> list[Measure]:
    """The measures that need nothing from outside; the first score of the first is the default headline."""
    offers = family.offers
    measures: list[Measure] = []
    if "logits" in offers:
        measures.append(Classification(offers))
    if spec.source_channels and spec.pairs != "none":
        colours = spec.channels == 3 and spec.source_channels == 1
        measures.append(Translation(offers, inside=spec.content == "horses", gray=colours))
    if spec.content == "digits":
        measures.append(Digits(family.conditional))
    elif spec.content == "points":
        measures.append(Points())
    else:
        measures.append(Random())
    if "reconstructed" in offers:
        measures.append(Reconstruction(spec.content == "digits"))
    return measures
