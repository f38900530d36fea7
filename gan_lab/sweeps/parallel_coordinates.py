"""Parallel coordinates of a sweep's trials: an axis per varied parameter, and the metric's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gan_lab.config.values import format_value

# of the drawing, in pixels
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 60, 580, 40, 190
# A larger ratio of the values makes an axis logarithmic.
MAX_LINEAR_RATIO = 20


def draw_axes(
    columns: Mapping[str, Sequence[Any]], metric: str, maximize: bool, shown: Callable[[Any], str]
) -> dict[str, Any]:
    """Draw an axis per column and a line per trial; the better end of the metric is at the top.

    Args:
        columns: The values of all trials by parameter, and those of the metric last.
        metric: Name of the metric's column.
        maximize: Whether a larger metric is better.
        shown: Formats a value.

    Returns:
        ``axes`` with name, x, and the values at the top and at the bottom; ``lines``, the path of
        each trial. Empty without two trials and a parameter that varies.
    """
    varied = {
        name: values
        for name, values in columns.items()
        if name == metric or len({format_value(value) for value in values}) > 1
    }
    # a trial that diverged has no place on the axis of the metric
    kept = [i for i, value in enumerate(columns[metric]) if math.isfinite(value)]
    varied = {name: [values[i] for i in kept] for name, values in varied.items()}
    if len(varied) < 2 or len(kept) < 2:
        return {}
    axes, heights = [], []
    for i, (name, values) in enumerate(varied.items()):
        x = round(LEFT + (RIGHT - LEFT) * i / (len(varied) - 1), 1)
        shares, low, high = place_on_axis(values)
        if name == metric and not maximize:
            shares, low, high = [1 - share for share in shares], high, low
        axes.append({"name": name, "x": x, "top": shown(high), "bottom": shown(low)})
        heights.append([round(BOTTOM - (BOTTOM - TOP) * share, 1) for share in shares])
    lines = [
        "M" + "L".join(f"{axis['x']} {y}" for axis, y in zip(axes, trial, strict=True))
        for trial in zip(*heights, strict=True)
    ]
    return {"axes": axes, "lines": lines}


def place_on_axis(values: Sequence[Any]) -> tuple[list[float], Any, Any]:
    """Place values between 0 and 1: numbers by size, perhaps logarithmically, others by rank.

    Returns:
        The positions, and the values at 0 and at 1.
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        is_logarithmic = low > 0 and high / low > MAX_LINEAR_RATIO
        scale: Callable[[float], float] = math.log if is_logarithmic else float
        size = (scale(high) - scale(low)) or 1.0
        return [(scale(value) - scale(low)) / size for value in values], low, high
    named = {format_value(value): value for value in values}
    order = sorted(named)
    last = max(1, len(order) - 1)
    shares = [order.index(format_value(value)) / last for value in values]
    return shares, named[order[0]], named[order[-1]]
