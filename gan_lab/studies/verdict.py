"""Verdicts: tests of a study's predictions at a family-wise level of 5 %."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import mean, stdev

from scipy import optimize, stats

from gan_lab.report.statistics import (
    LEVEL,
    SEEDS,
    Effect,
    compare_with_bound,
    holm,
    is_discrete,
    welch,
)
from gan_lab.studies import Prediction, Study
from gan_lab.studies.measures import Results
from gan_lab.utils.numbers import mean_and_spread

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE)

# Statistical power at which a page reports the smallest detectable difference.
POWER = 0.8


@dataclass(frozen=True)
class JudgedPrediction:
    """A prediction and its test.

    Attributes:
        prediction: What was predicted.
        effect: The difference, positive in the predicted direction; None without enough values.
        detectable_difference: The distance from ``by`` that is detected with ``POWER`` or more;
            NaN without a test, and for discrete values.
        verdict: One of ``VERDICTS``.
        missing: The arms of which seeds have no finite value, with the number of these seeds.
    """

    prediction: Prediction
    effect: Effect | None
    detectable_difference: float
    verdict: str
    missing: dict[str, int]


def judge_predictions(study: Study, budget: str, results: Results) -> list[JudgedPrediction]:
    """Test every prediction two-sided against its ``by``, with Holm's correction.

    A prediction is inconclusive with fewer than three seeds, and if a planned seed has no finite
    value: which seeds fail is a result itself, and the others alone could support anything.
    """
    seeds = study.get_budget(budget).seeds
    missing = [_count_missing(prediction, results, seeds) for prediction in study.predictions]
    effects = [
        (None, []) if some else _test_prediction(prediction, results)
        for prediction, some in zip(study.predictions, missing, strict=True)
    ]
    significant = holm(
        [1.0 if effect is None or math.isnan(effect.p) else effect.p for effect, _ in effects]
    )
    judged = []
    for prediction, (effect, samples), is_significant, some in zip(
        study.predictions, effects, significant, missing, strict=True
    ):
        if effect is None or not is_significant:
            verdict = INCONCLUSIVE
        elif effect.difference > 0:
            verdict = SUPPORTED
        else:
            verdict = CONTRADICTED
        # The test is about the difference beyond ``by``; the page shows the difference itself.
        shown = None
        if effect is not None:
            by = prediction.by
            shown = Effect(effect.difference + by, effect.low + by, effect.high + by, effect.p)
        difference = math.nan
        if samples:
            difference = compute_detectable_difference(samples, len(effects))
        judged.append(JudgedPrediction(prediction, shown, difference, verdict, some))
    return judged


def combine_verdicts(judged: list[JudgedPrediction]) -> str:
    """Return the verdict of a study.

    It is contradicted if one prediction is, and supported only if all predictions are.
    """
    verdicts = {each.verdict for each in judged}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if verdicts == {SUPPORTED} else INCONCLUSIVE


def _count_missing(prediction: Prediction, results: Results, seeds: int) -> dict[str, int]:
    """Count the planned seeds without a finite value in each arm of a prediction."""
    arms = [arm for arm in (prediction.arm, prediction.other) if arm is not None]
    counts = {arm: seeds - len(select_values(results, arm, prediction.value)) for arm in arms}
    return {arm: count for arm, count in counts.items() if count > 0}


def _test_prediction(
    prediction: Prediction, results: Results
) -> tuple[Effect | None, list[list[float]]]:
    """Return the difference beyond ``by`` in the predicted direction, and its samples."""
    sign = 1.0 if prediction.relation == "above" else -1.0
    samples = [
        select_values(results, arm, prediction.value)
        for arm in (prediction.arm, prediction.other)
        if arm is not None
    ]
    if min(map(len, samples)) < SEEDS:
        return None, []
    shifted = [sign * x - prediction.by for x in samples[0]]
    if prediction.bound is not None:
        return compare_with_bound(shifted, sign * prediction.bound), samples
    effect = welch(shifted, [sign * x for x in samples[1]])
    if prediction.by and any(map(is_discrete, samples)):
        # Shifted discrete values never coincide, so that a permutation test always finds them
        # different. No exact test of a margin is known for so few values.
        effect = replace(effect, p=math.nan)
    return effect, samples


def select_values(results: Results, arm: str, value: str) -> list[float]:
    """Return a value of an arm for every seed in which it is finite."""
    found = (values.get(value) for values in results.get(arm, []))
    return [float(x) for x in found if isinstance(x, int | float) and math.isfinite(x)]


def compute_detectable_difference(samples: list[list[float]], tests: int) -> float:
    """Compute the difference that is detected with ``POWER`` or more.

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
    return find_noncentrality(min(map(len, samples)) - 1, tests) * error


@cache
def find_noncentrality(freedom: int, tests: int) -> float:
    """Find the noncentrality at which a two-sided t test has ``POWER``.

    Args:
        freedom: Degrees of freedom.
        tests: Number of tests that share ``LEVEL``.
    """
    critical = float(stats.t.ppf(1 - LEVEL / tests / 2, freedom))
    return float(
        optimize.brentq(
            lambda delta: stats.nct.sf(critical, freedom, delta) - POWER, 0, 50 * critical
        )
    )


def format_values(results: Results, arm: str, value: str) -> str:
    """Format mean ± standard deviation over the seeds, with their number if some have no value."""
    found = select_values(results, arm, value)
    if not found:
        return ""
    text = mean_and_spread(mean(found), stdev(found) if len(found) > 1 else None)
    return text if len(found) == len(results[arm]) else f"{text} (n={len(found)})"
