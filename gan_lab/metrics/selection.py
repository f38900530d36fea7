"""Find all metrics, and select those that a family has on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_lab.config.extensions import find_extension
from gan_lab.metrics.base import Metric, Setting


def names() -> list[str]:
    """Every metric, found without importing it: the files of this folder with ``METRIC``."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("[!.]*.py") if "\nMETRIC = " in path.read_text("utf-8")
    )


def find_metrics(include: Sequence[str] = ()) -> list[type[Metric]]:
    """The classes of all metrics and of those in modules of anyone's own, the lowest ``priority`` first.

    Raises ValueError for a module that cannot be found, or that has no ``METRIC``.
    """
    known = names()
    modules = [find_extension("metrics", "metric", name, known, "METRIC") for name in dict.fromkeys([*known, *include])]
    return sorted((module.METRIC for module in modules), key=lambda metric: metric.priority)


def select_metrics(setting: Setting) -> list[Metric]:
    """The metrics that apply; why others are left out is added to ``setting.notes``.

    Raises ValueError, before hours of training, for an extractor of ``metrics.extractors`` that does not exist or is
    not at hand.
    """
    return [
        metric for kind in find_metrics(setting.cfg.include) if kind.applies(setting) for metric in kind.create(setting)
    ]
