"""Curves as the page draws them: charts in groups, each with its series of points."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from gan_lab.runs.run import Points, Run

MOST = 1500  # points of a series: a screen has fewer columns
# The first pattern that fits a column says its group; what is drawn in one chart is of one kind of number.
GROUPS = (
    ("Losses", re.compile(r"loss|wasserstein|class_[dg]$")),
    ("Discriminator", re.compile(r"d_(real|fake)|accuracy_")),
    ("Gradients", re.compile(r"grad")),
)
TOGETHER = (("losses", re.compile(r"loss|wasserstein|class_[dg]$")), ("mean output", re.compile(r"d_(real|fake)")),
            ("accuracy", re.compile(r"accuracy_")), ("gradient norms", re.compile(r"grad")))  # fmt: skip
Chart = dict[str, Any]


def of_run(run: Run) -> list[tuple[str, list[Chart]]]:
    """The charts of every numeric column of a run: scores, losses, discriminator, gradients, and the rest."""
    groups: dict[str, dict[str, Chart]] = {
        "Scores": {},
        "Losses": {},
        "Discriminator": {},
        "Gradients": {},
        "Others": {},
    }
    for name, points in run.curves.items():
        group, title = _place(name, run)
        chart = groups[group].setdefault(title, {"title": title, "series": []})
        chart["series"].append(series(name, points))
        if group == "Scores" and name in run.floors:
            chart["series"].append(_floor(run.floors[name], points))
    return [(group, list(charts.values())) for group, charts in groups.items() if charts]


def of_runs(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """One chart for each score, with the curves of all runs that have it."""
    scores = dict.fromkeys(score for run in runs for score in run.score_names)
    charts = []
    for score in scores:
        each = [series(name, run.curves[score]) | {"place": place} for place, (run, name)
                in enumerate(zip(runs, names, strict=True)) if run.curves.get(score)]  # fmt: skip
        if each:  # a run has the same place, and so the same colour, in all charts
            (first, *_) = (run for run in runs if run.curves.get(score))
            floors = {run.floors.get(score) for run in runs if run.curves.get(score)}
            if len(floors) == 1 and (floor := floors.pop()) is not None:
                longest = max((run.curves[score] for run in runs if run.curves.get(score)), key=lambda one: one[-1][0])
                each.append(_floor(floor, longest) | {"place": len(runs)})
            charts.append({"title": title_of(score, first), "series": each})
    return charts


def _floor(value: float, points: Points) -> Chart:
    """The line of what real images have."""
    return series("real images", [(images, value) for images in dict.fromkeys((points[0][0], points[-1][0]))])


def title_of(score: str, run: Run) -> str:
    """A score with the direction that is better, if one is."""
    direction = run.direction(score)
    return f"{score} ({direction})" if direction else score


def _place(name: str, run: Run) -> tuple[str, str]:
    if name in run.score_names:
        return "Scores", title_of(name, run)
    group = next((group for group, pattern in GROUPS if pattern.match(name)), "Others")
    return group, next((title for title, pattern in TOGETHER if pattern.match(name)), name)


def series(name: str, points: Points) -> dict[str, Any]:
    """A curve with at most ``MOST`` points, five digits each; what is not finite is null, a gap in the line."""
    step = -(-len(points) // MOST)
    kept = points if step <= 1 else [*points[:-1:step], points[-1]]
    return {
        "name": name,
        "x": [int(images) for images, _ in kept],
        "y": [float(f"{value:.5g}") if math.isfinite(value) else None for _, value in kept],
        "step": step,
    }
