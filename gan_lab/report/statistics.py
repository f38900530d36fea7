"""Tests of differences of means: t-tests, exact tests of discrete values, equivalence, Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, stdev

import numpy as np
import scipy

from gan_lab.utils.numbers import format_rounded

# Minimum number of seeds per row for a test.
MIN_SEEDS = 3
# Significance level of all tests of a column together.
SIGNIFICANCE_LEVEL = 0.05
# A sample with repeated values and fewer distinct ones than this is discrete. Its standard
# deviation may be 0 by chance, and a t-test would then find any difference significant.
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
            format_rounded(value, sign="+") for value in (self.difference, self.low, self.high)
        )
        return f"{difference} ({low} to {high})"


@dataclass(frozen=True)
class Estimate:
    """An estimated difference with its standard error and degrees of freedom."""

    difference: float
    error: float
    freedom: float

    def compute_p(self, null: float = 0.0) -> float:
        """Return the two-sided p-value of the t-test that the difference is ``null``."""
        return 2 * _exceed(abs(self.difference - null) / self.error, self.freedom)

    def compute_equivalence_p(self, margin: float) -> float:
        """Return the p-value of two one-sided tests that the difference exceeds +- ``margin``.

        Source: Schuirmann 1987 (Journal of Pharmacokinetics and Biopharmaceutics 15).
        """
        distance = margin - abs(self.difference)
        return _exceed(distance / self.error, self.freedom)

    def compute_interval(self) -> tuple[float, float]:
        """Return the confidence interval of level 1 - ``SIGNIFICANCE_LEVEL``."""
        reach = float(scipy.special.stdtrit(self.freedom, 1 - SIGNIFICANCE_LEVEL / 2)) * self.error
        return self.difference - reach, self.difference + reach


def _exceed(t: float, freedom: float) -> float:
    """Return the probability that Student's t exceeds a value.

    ``scipy.stats.t.sf`` calls the same function, but ``scipy.stats`` takes a second to import.
    """
    return float(scipy.special.stdtr(freedom, -t))


def estimate(one: Sequence[float], other: Sequence[float] | None = None) -> Estimate:
    """Estimate the mean of a sample minus that of another one, or minus 0.

    A standard error of 0 has one degree of freedom less than the smaller sample.

    Source: Welch 1947 (Biometrika 34), with the degrees of freedom of Satterthwaite.
    """
    samples = [one] if other is None else [one, other]
    difference = mean(one) - (0.0 if other is None else mean(other))
    parts = [stdev(values) ** 2 / len(values) for values in samples]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Estimate(difference, 0.0, min(map(len, samples)) - 1)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, samples, strict=True)
    )
    return Estimate(difference, error, freedom)


def welch(one: Sequence[float], other: Sequence[float]) -> Effect:
    """Compare the means of two samples with unequal variances.

    By Welch's t-test, or for discrete values by the exact permutation test.

    Args:
        one: The first sample, two values or more.
        other: The second sample, two values or more.

    Returns:
        The mean of the first sample minus the mean of the second.
    """
    estimated = estimate(one, other)
    if is_discrete(one) or is_discrete(other) or estimated.error == 0:
        p = _permute(one, other)
    else:
        p = estimated.compute_p()
    return Effect(estimated.difference, *estimated.compute_interval(), p)


def compare_with_bound(values: Sequence[float], bound: float) -> Effect:
    """Compare the mean of two or more values with a known number.

    By Student's t-test. A share of seeds (all values are 0 or 1, such as collapsed or not) has the
    exact binomial test. For other discrete values the p-value is that of the sign test, which is
    about their median; it is 1 if mean and median lie on different sides.
    """
    if is_share(values, bound):
        return _compare_share(values, bound)
    if is_share([-value for value in values], -bound):
        mirrored = compare_with_bound([-value for value in values], -bound)
        return Effect(-mirrored.difference, -mirrored.high, -mirrored.low, mirrored.p)
    estimated = estimate([value - bound for value in values])
    p = _test_signs(values, bound) if is_discrete(values) else estimated.compute_p()
    return Effect(estimated.difference, *estimated.compute_interval(), p)


def is_share(values: Sequence[float], bound: float) -> bool:
    """Return True if every value is 0 or 1, and the bound a probability between them."""
    return set(values) <= {0.0, 1.0} and 0 < bound < 1


def _compare_share(values: Sequence[float], bound: float) -> Effect:
    """Compare a share of seeds with a known one; ``scipy.stats.binomtest`` has the same interval.

    Twice the smaller tail is the p-value, as in the other exact tests here.

    Source: Clopper & Pearson 1934 (Biometrika 26) for the interval.
    """
    n, count = len(values), int(sum(values))
    # the cumulative binomial distribution is an incomplete beta function
    at_least = 1.0 if count == 0 else float(scipy.special.betainc(count, n - count + 1, bound))
    at_most = 1.0 if count == n else float(scipy.special.betaincc(count + 1, n - count, bound))
    tail = SIGNIFICANCE_LEVEL / 2
    low = 0.0 if count == 0 else float(scipy.special.betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(scipy.special.betaincinv(count + 1, n - count, 1 - tail))
    p = min(1.0, 2 * min(at_least, at_most))
    return Effect(count / n - bound, low - bound, high - bound, p)


def _test_signs(values: Sequence[float], bound: float) -> float:
    """Return the two-sided p-value of the sign test; values equal up to rounding are ties."""
    untied = [x for x in values if not math.isclose(x, bound, rel_tol=1e-9, abs_tol=1e-12)]
    above = sum(x > bound for x in untied)
    is_majority_above = 2 * above > len(untied)
    if not untied or is_majority_above != (mean(values) > bound):
        return 1.0
    # scipy.stats.binomtest has the same value
    n = len(untied)
    tail = sum(math.comb(n, k) for k in range(min(above, n - above) + 1))
    return min(1.0, 2 * tail / 2**n)


def is_discrete(values: Sequence[float]) -> bool:
    """Return True if values repeat and fewer than ``MIN_DISTINCT_VALUES`` are distinct."""
    return len(set(values)) < min(MIN_DISTINCT_VALUES, len(values))


def _permute(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p-value of the permutation test of a difference of means.

    ``scipy.stats.permutation_test`` has the same value, but ``scipy.stats`` takes a second to
    import.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    pooled = np.array([*one, *other], dtype=np.float64)
    observed = np.mean(one) - np.mean(other)
    orders, is_exact = _list_permutations(len(one), len(other))
    permuted = pooled[orders]
    means = permuted[:, : len(one)].mean(axis=-1) - permuted[:, len(one) :].mean(axis=-1)
    # differences that are equal except for rounding
    tolerance = 100 * np.finfo(np.float64).eps * abs(observed)
    below = int(np.count_nonzero(means <= observed + tolerance))
    above = int(np.count_nonzero(means >= observed - tolerance))
    # the observed order is one of all permutations, but not one of random ones
    added = 0 if is_exact else 1
    return min(1.0, 2 * (min(below, above) + added) / (len(orders) + added))


def _list_permutations(n: int, m: int) -> tuple[np.ndarray, bool]:
    """List how ``n`` and ``m`` values can be exchanged between two samples.

    Returns:
        Indices [P, n + m] of the pooled values, those of the first sample first: of every exchange,
        or of ``MAX_PERMUTATIONS`` random ones; and whether they are all.
    """
    everything = set(range(n + m))
    if math.comb(n + m, n) > MAX_PERMUTATIONS:
        rng = np.random.default_rng(0)
        return np.array([rng.permutation(n + m) for _ in range(MAX_PERMUTATIONS)]), False
    # in the order of sets, so that means are rounded as those of scipy.stats.permutation_test
    firsts = map(set, combinations(range(n + m), n))
    return np.array([[*first, *(everything - first)] for first in firsts]), True


def is_best(first: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return True if ``first``, which has the best mean, differs significantly from all others.

    All tests must be significant, so none needs a correction: the probability that all of them are
    wrong is not larger than that of one (an intersection-union test). Samples of fewer than three
    values, or with a value that is not finite, are never significant.

    Source: Berger 1982 (Technometrics 24).
    """
    samples = (first, *others)
    if not others or min(map(len, samples)) < MIN_SEEDS:
        return False
    if not all(math.isfinite(value) for sample in samples for value in sample):
        return False
    return all(welch(first, other).p <= SIGNIFICANCE_LEVEL for other in others)


def share_level(p: Sequence[float]) -> list[float]:
    """Return the level of each of several p-values by Holm's method; 0: it is not tested any more.

    A p-value is significant if it is not larger than its level.

    Source: Holm 1979 (Scandinavian Journal of Statistics 6).
    """
    levels = [0.0] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        levels[i] = SIGNIFICANCE_LEVEL / (len(p) - rank)
        if p[i] > levels[i]:
            break
    return levels
