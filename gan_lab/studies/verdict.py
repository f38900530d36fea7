"""Verdicts: tests of a study's predictions at a family-wise level of 5 %."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import optimize, stats

from gan_lab.report.statistics import LEVEL, SEEDS, Effect, compare_with_bound, holm, welch
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
        detectable_difference: The distance from ``by`` that is detected with ``POWER`` or more.
        verdict: One of ``VERDICTS``.
    """

    prediction: Prediction
    effect: Effect | None
    detectable_difference: float
    verdict: str


def judge_predictions(study: Study, results: Results) -> list[JudgedPrediction]:
    """Test every prediction two-sided against its ``by``, with Holm's correction.

    A prediction is inconclusive with fewer than three seeds, and if a value is missing or not
    finite.
    """
    effects = [_test_prediction(prediction, results) for prediction in study.predictions]
    significant = holm([effect.p if effect is not None else 1.0 for effect, _ in effects])
    judged = []
    for prediction, (effect, samples), is_significant in zip(
        study.predictions, effects, significant, strict=True
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
        judged.append(JudgedPrediction(prediction, shown, difference, verdict))
    return judged


def combine_verdicts(judged: list[JudgedPrediction]) -> str:
    """Return the verdict of a study.

    It is contradicted if one prediction is, and supported only if all predictions are.
    """
    verdicts = {each.verdict for each in judged}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if verdicts == {SUPPORTED} else INCONCLUSIVE


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
    if min(map(len, samples)) < SEEDS or not all(
        math.isfinite(x) for sample in samples for x in sample
    ):
        return None, []
    shifted = [sign * x - prediction.by for x in samples[0]]
    if prediction.bound is not None:
        return compare_with_bound(shifted, sign * prediction.bound), samples
    return welch(shifted, [sign * x for x in samples[1]]), samples


def select_values(results: Results, arm: str, value: str) -> list[float]:
    """Return a value of an arm for every seed that has it."""
    found = (values.get(value) for values in results.get(arm, []))
    return [float(x) for x in found if isinstance(x, int | float)]


def compute_detectable_difference(samples: list[list[float]], tests: int) -> float:
    """Compute the difference that is detected with ``POWER`` or more.

    The noncentral t distribution has the fewest degrees of freedom that Welch's test can have,
    those of the smaller sample: the test estimates them, and the estimate is often near that.

    Args:
        samples: One or two samples, whose observed standard deviations are used.
        tests: Number of tests that share ``LEVEL``.
    """
    error = math.sqrt(sum(stdev(values) ** 2 / len(values) for values in samples))
    if error == 0:
        return 0.0
    freedom = min(map(len, samples)) - 1
    critical = float(stats.t.ppf(1 - LEVEL / tests / 2, freedom))
    noncentrality = float(
        optimize.brentq(
            lambda delta: stats.nct.sf(critical, freedom, delta) - POWER, 0, 50 * critical
        )
    )
    return noncentrality * error


def format_values(results: Results, arm: str, value: str) -> str:
    """Format mean ± standard deviation over the seeds."""
    found = select_values(results, arm, value)
    if not found:
        return ""
    return mean_and_spread(mean(found), stdev(found) if len(found) > 1 else None)
