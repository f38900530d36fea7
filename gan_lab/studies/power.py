"""Power of the tests of predictions: detectable differences, and seeds that would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

import scipy

from gan_lab.report.statistics import SIGNIFICANCE_LEVEL, is_discrete

# Statistical power at which a page reports differences and numbers of seeds.
TARGET_POWER = 0.8
# More seeds than this are reported as "more than".
MAX_SEEDS = 1000


def compute_detectable_difference(samples: Sequence[Sequence[float]], tests: int) -> float:
    """Compute the difference that is detected with ``TARGET_POWER`` or more.

    The noncentral t distribution has the fewest degrees of freedom that Welch's test can have,
    those of the smaller sample: the test estimates them, and the estimate is often near that.

    Args:
        samples: One or two samples, whose observed standard deviations are used.
        tests: Number of tests that share ``LEVEL``.

    Returns:
        The difference; NaN for discrete values, whose test does not depend on a standard deviation.
    """
    error = math.sqrt(sum(stdev(values) ** 2 / len(values) for values in samples))
    if error == 0 or any(map(is_discrete, samples)):
        return math.nan
    freedom = min(map(len, samples)) - 1
    critical = float(scipy.stats.t.ppf(1 - SIGNIFICANCE_LEVEL / tests / 2, freedom))
    noncentrality = float(
        scipy.optimize.brentq(
            lambda delta: scipy.stats.nct.sf(critical, freedom, delta) - TARGET_POWER,
            0,
            50 * critical,
        )
    )
    return noncentrality * error


def compute_needed_seeds(
    samples: Sequence[Sequence[float]],
    distance: float,
    tests: int,
    difference: float = 0.0,
    margin: float | None = None,
) -> int | None:
    """Compute how many seeds of each arm decide a prediction with ``TARGET_POWER`` or more.

    The observed means and standard deviations are taken as the true ones, so the number is a rough
    one. A prediction is decided by a significant difference, or within a margin by equivalence.

    Args:
        samples: One or two samples.
        distance: The observed difference minus the predicted limit.
        tests: Number of tests that share ``LEVEL``.
        difference: The observed difference, for the test of equivalence.
        margin: The margin of equivalence.

    Returns:
        The number; ``MAX_SEEDS`` + 1 if it is larger than ``MAX_SEEDS``; None if no number decides,
        since all values are equal.
    """
    deviations = [stdev(values) for values in samples]
    level = SIGNIFICANCE_LEVEL / tests
    if max(deviations) == 0:
        if distance == 0:
            return None
        seeds = range(3, MAX_SEEDS)
        return next(n for n in seeds if _compute_smallest_p(n, len(samples)) <= level)

    def has_power(n: int) -> bool:
        error = math.sqrt(sum(deviation**2 / n for deviation in deviations))
        quartic = sum(deviation**4 for deviation in deviations)
        freedom = (n - 1) * sum(deviation**2 for deviation in deviations) ** 2 / quartic
        critical = scipy.stats.t.ppf(1 - level / 2, freedom)
        if scipy.stats.nct.sf(critical, freedom, abs(distance) / error) >= TARGET_POWER:
            return True
        if margin is None or abs(difference) >= margin:
            return False
        critical = scipy.stats.t.ppf(1 - level, freedom)
        misses = [
            scipy.stats.nct.cdf(critical, freedom, (margin + sign * difference) / error)
            for sign in (-1, 1)
        ]
        return bool(sum(misses) <= 1 - TARGET_POWER)

    if not has_power(MAX_SEEDS):
        return MAX_SEEDS + 1
    # power grows with n
    low, high = 2, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_power(middle) else (middle, high)
    if any(map(is_discrete, samples)):
        # fewer seeds have no p-value below the level, however different the arms are
        while _compute_smallest_p(high, len(samples)) > level:
            high += 1
    return high


def _compute_smallest_p(n: int, arms: int) -> float:
    """Return the smallest two-sided p-value of the permutation test (one arm: the sign test)."""
    return 2 / math.comb(2 * n, n) if arms == 2 else 2 / 2**n
