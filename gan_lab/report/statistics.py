"""Tests of differences of means: t-tests, exact tests of discrete values, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats

from gan_lab.utils.numbers import rounded

# Minimum number of seeds per row for a test.
SEEDS = 3
# Significance level of all tests of a column together.
LEVEL = 0.05
# A sample with repeated values and fewer distinct ones than this is discrete. Its standard deviation
# may be 0 by chance, and a t-test would then find any difference significant.
MIN_DISTINCT_VALUES = 4
# Enough for every permutation of two samples of eight; larger samples get random ones.
MAX_PERMUTATIONS = 13_000


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
    """Compare the means of two samples with unequal variances.

    By Welch's t-test, or for discrete values by the exact permutation test.

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
        return Effect(difference, difference, difference, _permute(one, other))
    freedom = sum(errors) ** 2 / sum(
        part**2 / (len(v) - 1) for part, v in zip(errors, (one, other), strict=True)
    )
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    if is_discrete(one) or is_discrete(other):
        p = _permute(one, other)
    else:
        p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return Effect(difference, difference - reach, difference + reach, p)


def compare_with_bound(values: Sequence[float], bound: float) -> Effect:
    """Compare the mean of two or more values with a known number.

    By Student's t-test. For discrete values the p-value is that of the sign test, which is about
    their median; it is 1 if mean and median lie on different sides.
    """
    difference, error = mean(values) - bound, stdev(values) / math.sqrt(len(values))
    freedom = len(values) - 1
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    if is_discrete(values):
        p = _test_signs(values, bound)
    else:
        p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return Effect(difference, difference - reach, difference + reach, p)


def _test_signs(values: Sequence[float], bound: float) -> float:
    """Return the two-sided p-value of the sign test; values equal up to rounding are ties."""
    untied = [x for x in values if not math.isclose(x, bound, rel_tol=1e-9, abs_tol=1e-12)]
    above = sum(x > bound for x in untied)
    is_majority_above = 2 * above > len(untied)
    if not untied or is_majority_above != (mean(values) > bound):
        return 1.0
    return float(stats.binomtest(above, len(untied)).pvalue)


def is_discrete(values: Sequence[float]) -> bool:
    """Return True if values repeat and fewer than ``MIN_DISTINCT_VALUES`` are distinct."""
    return len(set(values)) < min(MIN_DISTINCT_VALUES, len(values))


def _permute(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p-value of the permutation test of a difference of means.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """

    def subtract_means(first: np.ndarray, second: np.ndarray, axis: int) -> Any:
        return first.mean(axis=axis) - second.mean(axis=axis)

    test = stats.permutation_test(
        (one, other), subtract_means, n_resamples=MAX_PERMUTATIONS, vectorized=True, rng=0
    )
    return float(test.pvalue)


def is_best(first: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return True if ``first``, which has the best mean, differs significantly from all others.

    All tests must be significant, so none needs a correction: the probability that all of them are
    wrong is not larger than that of one (an intersection-union test). Samples of fewer than three
    values, or with a value that is not finite, are never significant.

    Source: Berger 1982 (Technometrics 24).
    """
    samples = (first, *others)
    if not others or min(map(len, samples)) < SEEDS:
        return False
    if not all(math.isfinite(value) for sample in samples for value in sample):
        return False
    return all(welch(first, other).p <= LEVEL for other in others)


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
