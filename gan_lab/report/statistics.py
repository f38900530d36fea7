"""Tests of differences of means: Welch's and Student's t-test, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats

from gan_lab.utils.numbers import rounded

# Minimum number of seeds per row for a test.
SEEDS = 3
# Significance level of all tests of a column together.
LEVEL = 0.05


@dataclass(frozen=True)
class Effect:
    """The difference of two means with its 95% confidence interval and its two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        difference, low, high = (
            rounded(value, sign="+") for value in (self.difference, self.low, self.high)
        )
        return f"{difference} ({low} to {high})"


def welch(one: Sequence[float], other: Sequence[float]) -> Effect:
    """Compare the means of two samples with unequal variances by Welch's t-test.

    Args:
        one: The first sample, two values or more.
        other: The second sample, two values or more.

    Returns:
        The mean of the first sample minus the mean of the second.

    Source: Welch 1947 (Biometrika 34), with the degrees of freedom of Satterthwaite.
    """
    difference = mean(one) - mean(other)
    errors = [stdev(values) ** 2 / len(values) for values in (one, other)]
    error = math.sqrt(sum(errors))
    if error == 0:
        return Effect(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    freedom = sum(errors) ** 2 / sum(
        part**2 / (len(v) - 1) for part, v in zip(errors, (one, other), strict=True)
    )
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return Effect(difference, difference - reach, difference + reach, p)


def compare_with_bound(values: Sequence[float], bound: float) -> Effect:
    """Compare the mean of two or more values with a known number by Student's t-test."""
    difference, error = mean(values) - bound, stdev(values) / math.sqrt(len(values))
    if error == 0:
        return Effect(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    reach = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, len(values) - 1))
    return Effect(difference, difference - reach, difference + reach, p)


def is_best(first: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return True if ``first``, which has the best mean, differs significantly from all others.

    Samples of fewer than three values are never significant.
    """
    if not others or min(map(len, (first, *others))) < SEEDS:
        return False
    return all(holm([welch(first, other).p for other in others]))


def holm(p: Sequence[float]) -> list[bool]:
    """Return which of several p-values are significant at ``LEVEL`` with Holm's correction.

    Source: Holm 1979 (Scandinavian Journal of Statistics 6).
    """
    significant = [False] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > LEVEL / (len(p) - rank):
            break
        significant[i] = True
    return significant
