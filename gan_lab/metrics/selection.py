"""Discover all metrics and select those that apply to a family and a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_lab.config.extensions import find_extension
from gan_lab.metrics.base import Metric, Setting


def list_metrics() -> list[str]:
    """List the names of all metrics, which are the files of this folder that define ``METRIC``.

    The files are not imported.
    """
    return sorted(
        path.stem
        for path in Path(__file__).parent.glob("[!.]*.py")
        if "\nMETRIC = " in path.read_text("utf-8")
    )


def find_metrics(include: Sequence[str] = ()) -> list[type[Metric]]:
    """Import the classes of all metrics and of users' modules, the lowest ``priority`` first.

    Raises:
        UserError: A module cannot be found, or has no ``METRIC``.
    """
    known = list_metrics()
    modules = [
        find_extension("metrics", "metric", name, known, "METRIC")
        for name in dict.fromkeys([*known, *include])
    ]
    return sorted((module.METRIC for module in modules), key=lambda metric: metric.priority)


def select_metrics(setting: Setting) -> list[Metric]:
    """Create the metrics that apply, and add notes on skipped scores to ``setting.notes``.

    Raises:
        UserError: An extractor of ``metrics.extractors`` is unknown or not available.
    """
    return [
        metric
        for kind in find_metrics(setting.cfg.include)
        if kind.applies(setting)
        for metric in kind.create(setting)
    ]
