"""Scores of generated images, each with the protocol of its measurement.

The public metrics are ``torchmetrics.Metric`` subclasses for images from anywhere::

    fid = gan_lab.metrics.FrechetDistance("inception")
    fid.update(images, real=True)
    fid.update(samples, real=False)
    fid.compute()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lab.metrics.frechet import FrechetDistance as FrechetDistance
    from gan_lab.metrics.inception_score import InceptionScore as InceptionScore
    from gan_lab.metrics.kernel import KernelDistance as KernelDistance
    from gan_lab.metrics.manifold import (
        PrecisionRecallDensityCoverage as PrecisionRecallDensityCoverage,
    )

# Imported on first use, so that importing this package loads neither torchmetrics nor an extractor.
_MODULES = {
    "FrechetDistance": "frechet",
    "InceptionScore": "inception_score",
    "KernelDistance": "kernel",
    "PrecisionRecallDensityCoverage": "manifold",
}
__all__ = ["FrechetDistance", "InceptionScore", "KernelDistance", "PrecisionRecallDensityCoverage"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
