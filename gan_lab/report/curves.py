"""Charts of a page, in groups, each with its series of points."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from gan_lab.runs.run import Points, Run

# Of a series. A screen has fewer columns of pixels.
MAX_POINTS = 1500
# The first pattern that matches a column decides its group. TOGETHER lists columns that share a
# chart because they have the same unit.
CURVE_GROUPS = (
    ("Losses", re.compile(r"loss|wasserstein|class_[dg]$")),
    ("Discriminator", re.compile(r"d_(real|fake)|accuracy_")),
    ("Gradients", re.compile(r"grad")),
    (
        "Samples",
        re.compile(r"diversity|class_|nearest_other|repeats|color_|noise$|sample_|overfit"),
    ),
)
JOINT_CURVES = (
    ("losses", re.compile(r"loss|wasserstein|class_[dg]$")),
    ("mean output", re.compile(r"d_(real|fake)")),
    ("accuracy", re.compile(r"accuracy_")),
    ("gradient norms", re.compile(r"grad")),
    (
        "relative to real images",
        re.compile(r"diversity|class_(diversity|entropy)|nearest_other|color_"),
    ),
    ("distance to real images", re.compile(r"sample_distance")),
)
Chart = dict[str, Any]


def build_charts(run: Run) -> list[tuple[str, list[Chart]]]:
    """Build the charts of every numeric column of a run, in groups."""
    groups: dict[str, dict[str, Chart]] = {
        "Scores": {},
        "Losses": {},
        "Discriminator": {},
        "Gradients": {},
        "Samples": {},
        "Others": {},
    }
    for name, points in run.history.items():
        group, title = _find_chart(name, run)
        chart = groups[group].setdefault(title, {"title": title, "series": []})
        chart["series"].append(build_series(name, points))
        if group == "Scores" and name in run.real_vs_real:
            chart["series"].append(_real_vs_real_line(run.real_vs_real[name], points))
    return [(group, list(charts.values())) for group, charts in groups.items() if charts]


def build_comparison_charts(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Build one chart for each score, with the curves of all runs that have it."""
    charts = []
    for score in dict.fromkeys(score for run in runs for score in run.score_names):
        scored = [run for run in runs if score in run.history]
        if not scored:
            continue
        # A run has the same position, and therefore the same color, in all charts.
        lines = [
            build_series(name, run.history[score]) | {"place": position}
            for position, (run, name) in enumerate(zip(runs, names, strict=True))
            if score in run.history
        ]
        references = {run.real_vs_real.get(score) for run in scored}
        reference = references.pop() if len(references) == 1 else None
        if reference is not None:
            longest = max((run.history[score] for run in scored), key=lambda points: points[-1][0])
            lines.append(_real_vs_real_line(reference, longest) | {"place": len(runs)})
        charts.append({"title": format_title(score, scored[0]), "series": lines})
    return charts


def _real_vs_real_line(value: float, points: Points) -> Chart:
    """Draw the score of real images as a horizontal line."""
    return build_series(
        "real images", [(images, value) for images in dict.fromkeys((points[0][0], points[-1][0]))]
    )


def format_title(score: str, run: Run) -> str:
    """Format a score with its better direction, if it has one."""
    direction = run.describe_direction(score)
    return f"{score} ({direction})" if direction else score


def _find_chart(name: str, run: Run) -> tuple[str, str]:
    if name in run.score_names:
        return "Scores", format_title(name, run)
    group = next((group for group, pattern in CURVE_GROUPS if pattern.match(name)), "Others")
    return group, next((title for title, pattern in JOINT_CURVES if pattern.match(name)), name)


def build_series(name: str, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Build a curve of up to about ``MAX_POINTS`` points with five digits.

    NaN and Inf become null, which the page draws as a gap.
    """
    step = -(-len(points) // MAX_POINTS)
    kept = points if step <= 1 else [*points[:-1:step], points[-1]]
    return {
        "name": name,
        "x": [int(images) for images, _ in kept],
        "y": [float(f"{value:.5g}") if math.isfinite(value) else None for _, value in kept],
        "step": step,
    }
