"""Feature extractors: each is a file that defines ``EXTRACTOR`` and is discovered by its name."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

from torch import nn

from gan_lab.config.extensions import explain_unknown_name, find_extension
from gan_lab.config.schema import MetricsConfig
from gan_lab.images import ImageSpec
from gan_lab.metrics.extractors.base import Extractor, ModuleExtractor
from gan_lab.utils.errors import UserError


def list_extractors() -> list[str]:
    """List the names of all extractors."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def load(name: str, cfg: MetricsConfig | None = None) -> Extractor:
    """Load an extractor on the CPU, with the weights that ``cfg`` names.

    Raises:
        UserError: The extractor is unknown, or its weights are missing or are those of another
            network.
    """
    found = _find_class(name)
    if found.weights_key:
        return found(getattr(cfg or MetricsConfig(), found.weights_key))  # type: ignore[call-arg]
    return found()


def resolve_extractor(
    extractor: str | nn.Module | Extractor, weights: str | Path | None = None
) -> Extractor:
    """Return the extractor of images for a name or a module.

    Args:
        extractor: A name, an extractor, or a module that maps images to features.
        weights: File with the weights of a named extractor; None: its default.

    Raises:
        UserError: The extractor is unknown, its weights are missing or are those of another
            network, or ``weights`` is set for an extractor that ships with its weights.
    """
    if isinstance(extractor, Extractor):
        return extractor
    if isinstance(extractor, nn.Module):
        return ModuleExtractor(extractor)
    # The extractor points is for the toy data, which has no images.
    for_images = [name for name in list_extractors() if name != "points"]
    if extractor not in for_images and "." not in extractor:
        raise UserError(explain_unknown_name("extractor", extractor, for_images))
    if weights is None:
        return load(extractor)
    key = _find_class(extractor).weights_key
    if key is None:
        raise UserError(
            f"weights={weights}: the extractor {extractor} ships with its weights. Omit weights."
        )
    values: dict[str, Any] = {key: str(weights)}
    return load(extractor, MetricsConfig(**values))


def _find_class(name: str) -> type[Extractor]:
    found: type[Extractor] = find_extension(
        "metrics.extractors", "extractor", name, list_extractors(), "EXTRACTOR"
    ).EXTRACTOR
    return found


def choose_default(spec: ImageSpec) -> str:
    """Return the name of the default extractor for this content, which needs no download."""
    return {"digits": "digits", "points": "points"}.get(spec.content, "lite0_mid")
