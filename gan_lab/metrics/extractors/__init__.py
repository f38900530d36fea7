"""Feature extractors: one file each, found by its name, with ``EXTRACTOR`` in it."""

from __future__ import annotations

import pkgutil

from gan_lab.config.extensions import find_extension
from gan_lab.config.schema import MetricsConfig
from gan_lab.images import ImageSpec
from gan_lab.metrics.extractors.base import Extractor


def names() -> list[str]:
    """Every extractor there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def load(name: str, cfg: MetricsConfig | None = None) -> Extractor:
    """The extractor of a name, on the CPU, with the weights that ``cfg`` names.

    Raises ValueError for an unknown one, and for weights that are not at hand or are those of something else.
    """
    found = find_extension("metrics.extractors", "extractor", name, names(), "EXTRACTOR").EXTRACTOR
    loaded: Extractor = found(getattr(cfg or MetricsConfig(), found.weights_key)) if found.weights_key else found()
    return loaded


def default(spec: ImageSpec) -> str:
    """The one that needs nothing from outside, for images of this content."""
    return {"digits": "digits", "points": "points"}.get(spec.content, "lite0_mid")
