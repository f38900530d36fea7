"""Simulate the verdicts of group-sequential studies: wrong decisions and power.

``make bench-sequential``, without arguments: simulate, write ``docs/results/sequential.json``, and
draw ``docs/sequential.svg`` and the tables of ``docs/sequential.md``. With ``--draw``: only draw,
from the committed JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from gan_lab.report import sequential
from gan_lab.report.scales import Scale, find_scale
from gan_lab.report.statistics import MIN_DISTINCT_VALUES, SIGNIFICANCE_LEVEL
from gan_lab.studies.verdict import CONTRADICTED, INCONCLUSIVE, NO_EFFECT, SUPPORTED
from gan_lab.utils.files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results" / "sequential.json"
STUDIES = 2_000
POWER_STUDIES = 4_000
SCHEDULES = {
    "5": ((5,), sequential.OBRIEN_FLEMING),
    "16": ((16,), sequential.OBRIEN_FLEMING),
    "4, 8, 12, 16 O'Brien-Fleming": ((4, 8, 12, 16), sequential.OBRIEN_FLEMING),
    "4, 8, 12, 16 Pocock": ((4, 8, 12, 16), sequential.POCOCK),
    "3, 6, 9, 12 Pocock": ((3, 6, 9, 12), sequential.POCOCK),
}
# Differences of the power curves, in standard deviations.
EFFECTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
# The margin of equivalence in standard deviations.
MARGIN = 1.5
# The highest value of the discrete distribution, the modes of the ring.
MODES = 8


@dataclass(frozen=True)
class Distribution:
    """Values of two arms of which the first is higher by ``effect`` on the scale of the score.

    Attributes:
        score: Name of the score, which decides the scale.
        draw: Draws [arms, studies, seeds] from a generator, a shape and an effect.
    """

    score: str
    draw: Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]


def _draw_normal(rng: np.random.Generator, shape: tuple[int, int], effect: float) -> np.ndarray:
    values = rng.standard_normal((2, *shape))
    values[0] += effect
    return values


def _draw_lognormal(rng: np.random.Generator, shape: tuple[int, int], effect: float) -> np.ndarray:
    """Draw log-normal values of unequal spread (0.3 and 1.2) whose logarithms have equal means."""
    values = rng.standard_normal((2, *shape))
    return np.exp(np.stack([0.3 * values[0] + effect, 1.2 * values[1]]))


def _draw_modes(rng: np.random.Generator, shape: tuple[int, int], effect: float) -> np.ndarray:
    """Draw modes covered, most of them at 0."""
    share = np.array([0.05 + effect, 0.05]).reshape(2, 1, 1)
    return rng.binomial(MODES, share, (2, *shape)).astype(float)


def _draw_missing(rng: np.random.Generator, shape: tuple[int, int], effect: float) -> np.ndarray:
    """Draw normal values of which one in ten is missing."""
    values = _draw_normal(rng, shape, effect)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


DISTRIBUTIONS = {
    "normal": Distribution("kd_digits", _draw_normal),
    "log-normal, unequal spread": Distribution("fd_digits", _draw_lognormal),
    "discrete, most at 0": Distribution("modes_covered", _draw_modes),
    "one seed in ten missing": Distribution("kd_digits", _draw_missing),
}


def simulate_verdicts(
    values: np.ndarray,
    score: str,
    looks: tuple[int, ...],
    spending: str,
    margin: float | None = None,
    predictions: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Judge many studies of the prediction "the first arm is above the second" at once.

    The decisions are those of ``gan_lab.studies.verdict``, which judges one study at a time.

    Args:
        values: [2, studies, seeds]; NaN: a seed without a value.
        score: Name of the score.
        looks: Number of seeds at each look.
        spending: One of ``sequential.SPENDING_FUNCTIONS``.
        margin: Margin of equivalence on the scale of the score.
        predictions: Number of predictions that share the level.

    Returns:
        The verdict of each study [studies], and its number of seeds per arm [studies].
    """
    one, other = _transform(values, find_scale(score))
    level = SIGNIFICANCE_LEVEL / predictions
    limits = sequential.compute_look_levels(looks, level, spending)
    margins = sequential.compute_look_levels(looks, 2 * level, spending)
    verdicts = np.full(len(one), INCONCLUSIVE, object)
    seeds = np.full(len(one), looks[-1])
    running = np.arange(len(one))
    for n, limit, margin_limit in zip(looks, limits, margins, strict=True):
        a, b = one[running, :n], other[running, :n]
        is_missing = np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1)
        difference = a.mean(axis=1) - b.mean(axis=1)
        p = sequential.compute_p_values(a, b)
        is_discrete = _find_discrete(a) | _find_discrete(b)
        p[is_discrete] = compute_permutation_p(a[is_discrete], b[is_discrete])
        is_significant = ~is_missing & (p <= limit)
        found = np.where(difference > 0, SUPPORTED, CONTRADICTED).astype(object)
        found[~is_significant] = INCONCLUSIVE
        if margin is not None:
            scores, freedom = sequential.compute_t(a, b, shift=0.0)
            error = np.abs(difference / scores)
            reach = (margin - np.abs(difference)) / error
            is_within = special.stdtr(freedom, -reach) <= margin_limit / 2
            found[is_within & ~is_significant & ~is_missing & ~is_discrete] = NO_EFFECT
        verdicts[running] = found
        is_over = (found != INCONCLUSIVE) | is_missing
        seeds[running[is_over]] = n
        running = running[~is_over]
    return verdicts, seeds


def _transform(values: np.ndarray, scale: Scale) -> np.ndarray:
    present = np.where(np.isnan(values), 1.0, values)
    transformed = np.vectorize(scale.transform, otypes=[float])(present)
    return np.where(np.isnan(values), np.nan, transformed)


def _find_discrete(values: np.ndarray) -> np.ndarray:
    """Return which samples [N, n] have few distinct values, as ``statistics.is_discrete``."""
    distinct = 1 + (np.diff(np.sort(values, axis=1), axis=1) != 0).sum(axis=1)
    found: np.ndarray = distinct < min(MIN_DISTINCT_VALUES, values.shape[1])
    return found


def compute_permutation_p(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compute exact p-values of permutation tests of small whole numbers [N, n], two-sided.

    A table counts the ways to choose k of all values with each sum.
    """
    pooled = np.concatenate([one, other], axis=1).astype(int)
    n = one.shape[1]
    ways = np.zeros((len(pooled), n + 1, n * MODES + 1))
    ways[:, 0, 0] = 1
    for column in pooled.T:
        for value in np.unique(column):
            rows = column == value
            table = ways[rows]
            table[:, 1:, value:] += table[:, :-1, : table.shape[2] - value].copy()
            ways[rows] = table
    counts = ways[:, n]
    cumulative = counts.cumsum(axis=1)
    rows = np.arange(len(pooled))
    total = one.sum(axis=1).astype(int)
    below = cumulative[rows, total]
    above = cumulative[:, -1] - below + counts[rows, total]
    return np.minimum(1.0, 2 * np.minimum(below, above) / cumulative[:, -1])


def simulate_errors(studies: int = STUDIES) -> list[dict[str, Any]]:
    """Simulate null studies of three predictions each, and studies at the edge of the margin.

    A study is wrong if any of its predictions is decided wrongly.
    """
    rows = []
    for schedule, (looks, spending) in SCHEDULES.items():
        for name, distribution in DISTRIBUTIONS.items():
            rng = np.random.default_rng(1)
            wrong = np.zeros(studies, bool)
            for _ in range(3):
                values = distribution.draw(rng, (studies, looks[-1]), 0.0)
                verdicts, _ = simulate_verdicts(
                    values, distribution.score, looks, spending, predictions=3
                )
                wrong |= verdicts != INCONCLUSIVE
            rows.append(
                {"schedule": schedule, "truth": f"no effect, {name}", "wrong": float(wrong.mean())}
            )
        values = _draw_normal(np.random.default_rng(2), (studies, looks[-1]), MARGIN)
        verdicts, _ = simulate_verdicts(values, "kd_digits", looks, spending, margin=MARGIN)
        wrong = (verdicts == NO_EFFECT) | (verdicts == CONTRADICTED)
        truth = "an effect as large as the margin, normal"
        rows.append({"schedule": schedule, "truth": truth, "wrong": float(wrong.mean())})
    return rows


def simulate_power(studies: int = POWER_STUDIES) -> list[dict[str, Any]]:
    """Simulate one prediction of normal values, with a margin, for each effect."""
    rows = []
    for schedule, (looks, spending) in SCHEDULES.items():
        for effect in EFFECTS:
            values = _draw_normal(np.random.default_rng(3), (studies, looks[-1]), effect)
            verdicts, seeds = simulate_verdicts(values, "kd_digits", looks, spending, MARGIN)
            rows.append(
                {
                    "schedule": schedule,
                    "effect": effect,
                    SUPPORTED: float((verdicts == SUPPORTED).mean()),
                    NO_EFFECT: float((verdicts == NO_EFFECT).mean()),
                    "seeds": round(float(seeds.mean()), 2),
                }
            )
    return rows


def render_tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the tables of the page by the name of their marker."""
    schedules = list(results["levels"])
    levels = [[name, ", ".join(f"{x:.2g}" for x in results["levels"][name])] for name in schedules]
    truths = list(dict.fromkeys(row["truth"] for row in results["errors"]))
    wrong = {(row["schedule"], row["truth"]): row["wrong"] for row in results["errors"]}
    errors = [[t, *(f"{100 * wrong[name, t]:.1f} %" for name in schedules)] for t in truths]
    power = [
        [f"{row['effect']:g}", row["schedule"], f"{row[SUPPORTED]:.2f}", f"{row[NO_EFFECT]:.2f}",
         f"{row['seeds']:.1f}"]
        for row in results["power"] if row["effect"] in (0.0, 1.0, 1.5, 2.0)
    ]  # fmt: skip
    return {
        "levels": _format_table(["looks (seeds per arm)", "level of the p-value"], levels),
        "errors": _format_table(["truth", *schedules], errors),
        "power": _format_table(
            ["effect", "looks", "supported", "no effect", "mean seeds per arm"], sorted(power)
        ),
    }


def _format_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def render_figure(results: dict[str, Any]) -> str:
    """Return the power curves as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "gan-lab", "font.size": 10}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.0, 7.5), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
        titles = {SUPPORTED: "supported", NO_EFFECT: "no effect", "seeds": "mean seeds per arm"}
        for axes, (key, title) in zip(panels, titles.items(), strict=True):
            for schedule in results["levels"]:
                rows = [row for row in results["power"] if row["schedule"] == schedule]
                axes.plot([row["effect"] for row in rows], [row[key] for row in rows],
                          "o-", markersize=3, label=schedule)  # fmt: skip
            axes.set(ylabel=title)
        panels[0].axhline(0.8, color="gray", linestyle="--")
        panels[1].axvline(MARGIN, color="gray", linestyle="--")
        panels[-1].set(xlabel="true difference in standard deviations")
        panels[0].legend(frameon=False, fontsize=8)
        svg = StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in svg.getvalue().splitlines()) + "\n"


def fill_page(page: str, tables: dict[str, str]) -> str:
    """Replace the text between the markers of a page by the tables."""
    for name, table in tables.items():
        page = re.sub(
            rf"(<!-- {name} -->\n\n).*?(\n\n<!-- end -->)",
            lambda match, table=table: match[1] + table + match[2],
            page,
            flags=re.DOTALL,
        )
    return page


def collect_results(draw: bool) -> dict[str, Any]:
    """Simulate and write the JSON, or with ``draw`` read the committed one."""
    if not draw:
        levels = {
            name: list(sequential.compute_look_levels(looks, SIGNIFICANCE_LEVEL, spending))
            for name, (looks, spending) in SCHEDULES.items()
        }
        simulated = {"levels": levels, "errors": simulate_errors(), "power": simulate_power()}
        RESULTS.parent.mkdir(exist_ok=True)
        write_text(RESULTS, json.dumps(simulated, indent=1) + "\n")
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def main() -> None:
    """Simulate unless ``--draw`` is given, then draw page and figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw from the committed JSON")
    results = collect_results(parser.parse_args().draw)
    page = DOCS / "sequential.md"
    write_text(page, fill_page(page.read_text(encoding="utf-8"), render_tables(results)))
    write_text(DOCS / "sequential.svg", render_figure(results))


if __name__ == "__main__":
    main()
