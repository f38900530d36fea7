"""Verdicts: what follows from the values of a study, at 5 % for all its predictions together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import optimize, stats

from gan_lab.report.statistics import LEVEL, SEEDS, Effect, against, holm, welch
from gan_lab.studies import Prediction, Study
from gan_lab.studies.measures import Results
from gan_lab.utils.numbers import mean_and_spread

HOLDS, FAILS, OPEN = "holds", "does not hold here", "cannot be told here"
POWER = 0.8  # with which the effect that a page names would be told


@dataclass(frozen=True)
class Judged:
    """A prediction with what was found of it."""

    prediction: Prediction
    effect: (
        Effect | None
    )  # the difference as predicted, positive where it is in the right direction; None: no values
    detectable: float  # the difference from ``by`` that would be told with ``POWER`` or more
    verdict: str


def judge(study: Study, results: Results) -> list[Judged]:
    """Each prediction tested, two-sided, against its ``by``; by Holm's correction for their number.

    Fewer than three seeds tell nothing, and neither do values that are missing or no numbers.
    """
    effects = [_effect(one, results) for one in study.predictions]
    told = holm([effect.p if effect is not None else 1.0 for effect, _ in effects])
    judged = []
    for one, (effect, samples), sure in zip(study.predictions, effects, told, strict=True):
        verdict = OPEN if effect is None or not sure else HOLDS if effect.difference > 0 else FAILS
        shown = (
            None
            if effect is None
            else Effect(
                effect.difference + one.by, effect.low + one.by, effect.high + one.by, effect.p
            )
        )
        judged.append(
            Judged(one, shown, detectable(samples, len(effects)) if samples else math.nan, verdict)
        )
    return judged


def conclude(judged: list[Judged]) -> str:
    """A study holds if all predictions do, and does not if one does not."""
    verdicts = {one.verdict for one in judged}
    return FAILS if FAILS in verdicts else HOLDS if verdicts == {HOLDS} else OPEN


def _effect(one: Prediction, results: Results) -> tuple[Effect | None, list[list[float]]]:
    """The difference beyond ``by`` in the predicted direction, and the samples that it is of."""
    sign = 1.0 if one.relation == "above" else -1.0
    samples = [numbers(results, arm, one.value) for arm in (one.arm, one.other) if arm is not None]
    if min(map(len, samples)) < SEEDS or not all(
        math.isfinite(x) for sample in samples for x in sample
    ):
        return None, []
    shifted = [sign * x - one.by for x in samples[0]]
    if one.bound is not None:
        return against(shifted, sign * one.bound), samples
    return welch(shifted, [sign * x for x in samples[1]]), samples


def numbers(results: Results, arm: str, value: str) -> list[float]:
    """A value of an arm, one for each seed that has it."""
    found = (values.get(value) for values in results.get(arm, []))
    return [float(x) for x in found if isinstance(x, int | float)]


def detectable(samples: list[list[float]], tests: int) -> float:
    """The difference that a test at ``LEVEL`` over ``tests`` tells with ``POWER`` or more, with the spreads that were found.

    By the noncentral t distribution with the fewest degrees of freedom that Welch's test can have, those of the smaller
    sample: they are estimated by the test, and often near that.
    """
    error = math.sqrt(sum(stdev(values) ** 2 / len(values) for values in samples))
    if error == 0:
        return 0.0
    freedom = min(map(len, samples)) - 1
    critical = float(stats.t.ppf(1 - LEVEL / tests / 2, freedom))
    far = float(
        optimize.brentq(
            lambda delta: stats.nct.sf(critical, freedom, delta) - POWER, 0, 50 * critical
        )
    )
    return far * error


def summary(results: Results, arm: str, value: str) -> str:
    """Mean ± standard deviation over the seeds."""
    found = numbers(results, arm, value)
    return mean_and_spread(mean(found), stdev(found) if len(found) > 1 else None) if found else ""
