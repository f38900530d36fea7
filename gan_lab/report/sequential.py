"""Group-sequential tests: significance levels of repeated looks that share one error probability.

Sources: Lan & DeMets 1983 (Biometrika 70) for alpha spending; Jennison & Turnbull 2000, Group
Sequential Methods, section 4.4, for t-tests by significance levels. With three to five seeds at the
first look the joint distribution of the t statistics is far from normal, so the levels after the
first look are quantiles of simulated studies instead of normal integrals.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy

OBRIEN_FLEMING = "obrien_fleming"
POCOCK = "pocock"
SPENDING_FUNCTIONS = (OBRIEN_FLEMING, POCOCK)
# Simulated null studies per schedule: the standard error of a level of 0.05 is 0.0007.
SIMULATED_STUDIES = 100_000
# Ratios of the standard deviations of two arms. Welch's test is most liberal near 4.
SD_RATIOS = (1.0, 4.0)
# A quantile with fewer studies below it is too noisy.
MIN_RANK = 20
# The simulated levels of the schedules of the shipped studies, since a simulation takes a second.
RECORD = Path(__file__).with_name("look_levels.json")

# Numbers of seeds at the looks, two-sided level, spending function and number of samples.
Schedule = tuple[tuple[int, ...], float, str, int]


def compute_spent_level(share: float, level: float, spending: str) -> float:
    """Compute the two-sided error probability that may be spent up to a share of all seeds.

    Source: Lan & DeMets 1983, the functions alpha1 and alpha2 of each side.
    """
    if spending == OBRIEN_FLEMING:
        # scipy.stats.norm calls the same functions, but takes a second to import
        quantile = -scipy.special.ndtri(level / 4)
        return float(4 * scipy.special.ndtr(-quantile / math.sqrt(share)))
    return level * math.log(1 + (math.e - 1) * share)


def find_look_levels(schedule: Schedule) -> tuple[float, ...]:
    """Return the recorded levels of a schedule, or else compute them."""
    recorded = _read_record().get(_format(schedule))
    return compute_look_levels(*schedule) if recorded is None else tuple(recorded)


def record_look_levels(schedules: Iterable[Schedule]) -> None:
    """Compute the levels of schedules, and write those with several looks to ``RECORD``."""
    levels = {
        _format(schedule): compute_look_levels(*schedule)
        for schedule in sorted(schedules)
        if len(schedule[0]) > 1
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in levels.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@cache
def _read_record() -> dict[str, list[float]]:
    recorded: dict[str, list[float]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return recorded


def _format(schedule: Schedule) -> str:
    looks, level, spending, samples = schedule
    return f"looks {', '.join(map(str, looks))}; level {level!r}; {spending}; samples {samples}"


@cache
def compute_look_levels(
    looks: tuple[int, ...], level: float, spending: str, samples: int = 2
) -> tuple[float, ...]:
    """Compute the level of the p-value of each look.

    If every look rejects for a p-value up to its level, the probability of any rejection under the
    null hypothesis is at most ``level``, for normal values with each ratio of ``SD_RATIOS``.

    Args:
        looks: Number of seeds of each arm at each look, increasing.
        level: Two-sided error probability of all looks together.
        spending: One of ``SPENDING_FUNCTIONS``.
        samples: 2 for Welch's test of two arms, 1 for Student's against a bound.

    Returns:
        The level of each look.
    """
    if len(looks) == 1:
        return (level,)
    spent = [compute_spent_level(n / looks[-1], level, spending) for n in looks]
    rng = np.random.default_rng(0)
    # [arms, N, seeds], the same noise for every ratio
    noise = rng.standard_normal((samples, SIMULATED_STUDIES, looks[-1]))
    ratios = SD_RATIOS if samples == 2 else SD_RATIOS[:1]
    running = {ratio: np.arange(SIMULATED_STUDIES) for ratio in ratios}
    levels: list[float] = []
    for number, n in enumerate(looks):
        share = spent[number] - (spent[number - 1] if number else 0.0)
        rank = int(SIMULATED_STUDIES * share)
        p = {}
        found = [share]
        for ratio in ratios:
            one = noise[0, running[ratio], :n]
            other = ratio * noise[1, running[ratio], :n] if samples == 2 else None
            p[ratio] = compute_p_values(one, other)
            if rank >= MIN_RANK:
                # rank - 1 studies have a smaller p-value, so the error is not above its share
                found.append(float(np.partition(p[ratio], rank - 1)[rank - 1]))
        # without enough studies in the tail: Bonferroni's level, the share itself
        levels.append(min(found) if number == 0 or len(found) == 1 else min(found[1:]))
        for ratio in ratios:
            running[ratio] = running[ratio][p[ratio] > levels[-1]]
    return tuple(levels)


def compute_p_values(one: np.ndarray, other: np.ndarray | None = None) -> Any:
    """Compute two-sided p-values of many t-tests at once.

    Args:
        one: The first samples [..., N].
        other: The second samples [..., N], or None to compare the means of ``one`` with 0.

    Returns:
        The p-values [...]; NaN for samples without spread.
    """
    t, freedom = compute_t(one, other)
    return 2 * scipy.special.stdtr(freedom, -np.abs(t))


def compute_t(one: np.ndarray, other: np.ndarray | None = None, shift: float = 0.0) -> Any:
    """Compute the t statistics of many differences minus ``shift``, and their degrees of freedom.

    Welch's for two samples, Student's for one. Shapes as in ``compute_p_values``.
    """
    samples: Sequence[np.ndarray] = [one] if other is None else [one, other]
    parts = [sample.var(axis=-1, ddof=1) / sample.shape[-1] for sample in samples]
    difference = one.mean(axis=-1) - (0 if other is None else other.mean(axis=-1)) - shift
    error = sum(parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = error**2 / sum(
            part**2 / (sample.shape[-1] - 1) for part, sample in zip(parts, samples, strict=True)
        )
        return difference / np.sqrt(error), freedom
