"""Which measures a family has on a data set."""

from __future__ import annotations

from gan_lab.families.base import Family
from gan_lab.images import ImageSpec
from gan_lab.metrics.measures import Digits, Measure, Points
from gan_lab.metrics.pairwise import Classification, Reconstruction, Translation
from gan_lab.metrics.random import Random


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
