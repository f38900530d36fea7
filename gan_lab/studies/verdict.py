"""Verdicts: tests of a study's predictions at a family-wise level of 5 %.

A fixed design without margins shares the level by Holm's method. With margins of equivalence or
with several looks each prediction has an equal share of it: Holm's method shares the level of one
kind of hypothesis, not of two, and not over looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

from gan_lab.report.scales import UNTOUCHED, Scale, apply_scale
from gan_lab.report.sequential import Schedule, find_look_levels
from gan_lab.report.statistics import (
    MIN_SEEDS,
    SIGNIFICANCE_LEVEL,
    Effect,
    compare_with_bound,
    estimate,
    is_discrete,
    is_share,
    share_level,
    welch,
)
from gan_lab.studies import Budget, Prediction, Study
from gan_lab.studies.measures import Results
from gan_lab.studies.power import MAX_SEEDS, compute_detectable_difference, compute_needed_seeds
from gan_lab.utils.numbers import mean_and_spread

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
NO_EFFECT = "no effect larger than X"
INCONCLUSIVE = "inconclusive"
VERDICTS = (SUPPORTED, CONTRADICTED, NO_EFFECT, INCONCLUSIVE)

# An arm whose mean precision and mean recall are both below this share has failed.
MAX_FAILED_RATE = 0.1
# How sums of verdicts name the one whose margin differs from study to study.
SUM_LABELS = {NO_EFFECT: "without a relevant effect"}


@dataclass(frozen=True)
class PredictionTest:
    """The tests of one prediction at one look.

    Attributes:
        scale: The scale that was used.
        values: The values of each arm.
        samples: The same on the scale, positive in the predicted direction.
        effect: The difference, with the p-value of the predicted limit; NaN: not testable.
        p_of_zero: The p-value of no difference.
        p_of_margin: The p-value of a difference beyond the margin; NaN without one.
        bound: Description of the bound at which every value of the base arm lies, or empty.
    """

    scale: Scale
    values: list[list[float]]
    samples: list[list[float]]
    effect: Effect
    p_of_zero: float
    p_of_margin: float
    bound: str


@dataclass(frozen=True)
class JudgedPrediction:
    """A prediction and its test.

    Attributes:
        prediction: What was predicted.
        test: Its test at the look that decided, or at the last one; None without enough values.
        verdict: One of ``VERDICTS``.
        reason: Why, in a few words: "smaller than predicted", a floor effect, missing seeds.
        seeds: Number of seeds of each arm at this look.
        missing: The arms of which seeds have no finite value, with the number of these seeds.
        tests: Number of predictions of the study.
    """

    prediction: Prediction
    test: PredictionTest | None
    verdict: str
    reason: str
    seeds: int
    missing: dict[str, int]
    tests: int

    @property
    def scale(self) -> Scale:
        """The scale of the test."""
        return UNTOUCHED if self.test is None else self.test.scale

    @property
    def effect(self) -> Effect | None:
        """The difference on the scale, positive in the predicted direction.

        Its p-value is that of the predicted limit.
        """
        return None if self.test is None else self.test.effect

    @property
    def is_share(self) -> bool:
        """True if the test is the exact one of a share of seeds, with the interval of this test."""
        return self.test is not None and _is_share(self.prediction, self.test.values[0])

    @property
    def is_discrete(self) -> bool:
        """True if the test is another one of discrete values, which has no interval."""
        if self.test is None or self.is_share:
            return False
        return any(map(is_discrete, self.test.samples))

    @cached_property
    def detectable_difference(self) -> float:
        """The distance from ``by`` that is detected with ``POWER`` or more.

        NaN without a test, and for discrete values.
        """
        if self.test is None:
            return math.nan
        return compute_detectable_difference(self.test.samples, self.tests)

    @cached_property
    def note(self) -> str:
        """The reason, or how many seeds would decide; empty for most other verdicts."""
        if self.reason or self.test is None or self.verdict != INCONCLUSIVE:
            return self.reason
        return _describe_needed_seeds(self.prediction, self.test, self.tests)


def judge_predictions(study: Study, budget: str, results: Results) -> list[JudgedPrediction]:
    """Test every prediction two-sided against its ``by``, and for equivalence within its margin.

    A prediction is inconclusive with fewer than three seeds, and if a planned seed has no finite
    value: which seeds fail is a result itself, and the others alone could support anything. In a
    sequential design each look that has been measured is judged, and the first look that decides a
    prediction is final.
    """
    design = study.get_budget(budget)
    measured = max((len(values) for values in results.values()), default=0)
    looks = [n for n in design.looks if n <= measured] or [design.looks[0]]
    decided: dict[int, JudgedPrediction] = {}
    judged: list[JudgedPrediction] = []
    for n in looks:
        so_far = {arm: values[:n] for arm, values in results.items()}
        judged = _judge_look(study, design, so_far, n)
        for i, each in enumerate(judged):
            if each.verdict != INCONCLUSIVE:
                decided.setdefault(i, each)
        judged = [decided.get(i, each) for i, each in enumerate(judged)]
    return judged


def needs_more_seeds(study: Study, budget: str, results: Results) -> bool:
    """Return True if more seeds could still decide a prediction that no look has decided."""
    return any(
        each.verdict == INCONCLUSIVE and not each.missing
        for each in judge_predictions(study, budget, results)
    )


def _judge_look(study: Study, design: Budget, results: Results, n: int) -> list[JudgedPrediction]:
    """Judge every prediction with ``n`` seeds of each arm, as if no earlier look had decided."""
    predictions = study.predictions
    missing = [_count_missing(prediction, results, n) for prediction in predictions]
    tests = [
        None if some else _test_prediction(prediction, results)
        for prediction, some in zip(predictions, missing, strict=True)
    ]
    levels = _share_levels(predictions, design, tests, n)
    judged = []
    for prediction, test, some, level in zip(predictions, tests, missing, levels, strict=True):
        verdict, reason = _decide(prediction, test, *level)
        if some:
            seeds = ", ".join(f"{count} of {arm}" for arm, count in some.items())
            reason = f"seeds without a value, {seeds}"
        elif test is not None and (failure := _describe_failure(prediction, results)):
            # the better one of two failures shows nothing about the claim
            verdict, reason = INCONCLUSIVE, failure
        judged.append(
            JudgedPrediction(prediction, test, verdict, reason, n, some, len(predictions))
        )
    return judged


def _share_levels(
    predictions: Sequence[Prediction],
    design: Budget,
    tests: Sequence[PredictionTest | None],
    n: int,
) -> list[tuple[float, float]]:
    """Return the level of each prediction's limit and of its margin at a look."""
    has_margin = any(prediction.margin is not None for prediction in predictions)
    if len(design.looks) == 1 and not has_margin:
        p = [1.0 if test is None or math.isnan(test.effect.p) else test.effect.p for test in tests]
        return [(level, 0.0) for level in share_level(p)]
    look = design.looks.index(n)
    # each of the two one-sided tests of equivalence has the complete level
    return [
        (find_look_levels(limit)[look], find_look_levels(margin)[look] / 2)
        for limit, margin in list_schedules(predictions, design)
    ]


def list_schedules(
    predictions: Sequence[Prediction], design: Budget
) -> list[tuple[Schedule, Schedule]]:
    """Return the schedules of looks that test the limit and the margin of each prediction."""
    level = SIGNIFICANCE_LEVEL / len(predictions)
    schedules: list[tuple[Schedule, Schedule]] = []
    for prediction in predictions:
        samples = 1 if prediction.other is None else 2
        limit, margin = (
            (design.looks, two_sided, design.spending, samples) for two_sided in (level, 2 * level)
        )
        schedules.append((limit, margin))
    return schedules


def _decide(
    prediction: Prediction, test: PredictionTest | None, level: float, margin_level: float
) -> tuple[str, str]:
    """Return the verdict and its reason, which is empty for most."""
    if test is None:
        return INCONCLUSIVE, ""
    is_significant = test.effect.p <= level
    is_equivalent = test.p_of_margin <= margin_level and not test.bound
    beyond = test.effect.difference - prediction.by
    if is_significant and beyond > 0:
        return SUPPORTED, ""
    # below a predicted margin, the absence of an effect is the more precise statement
    if is_equivalent and (prediction.by > 0 or not is_significant):
        return NO_EFFECT, ""
    if is_significant:
        is_smaller = prediction.by > 0 and test.effect.difference > 0 and test.p_of_zero <= level
        return CONTRADICTED, "smaller than predicted" if is_smaller else ""
    if test.bound:
        return INCONCLUSIVE, test.bound
    return INCONCLUSIVE, ""


def combine_verdicts(judged: Sequence[JudgedPrediction]) -> str:
    """Return the verdict of a study.

    It is contradicted if one prediction is, inconclusive if another one is, and supported only if
    all predictions are. Otherwise the effect of a prediction is shown to be within its margin.
    """
    verdicts = {each.verdict for each in judged}
    for verdict in (CONTRADICTED, INCONCLUSIVE, NO_EFFECT):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def format_verdict(judged: JudgedPrediction) -> str:
    """Format the verdict of a prediction with its margin and its note."""
    verdict = format_combined_verdict([judged])
    return f"{verdict}: {judged.note}" if judged.note else verdict


def format_combined_verdict(judged: Sequence[JudgedPrediction]) -> str:
    """Format the verdict of a study with its margin, as in: no effect larger than 5 %."""
    verdict = combine_verdicts(judged)
    if verdict != NO_EFFECT:
        return verdict
    margins = [_format_margin(each) for each in judged if each.verdict == NO_EFFECT]
    return verdict.replace("X", " and ".join(dict.fromkeys(margins)))


def _format_margin(judged: JudgedPrediction) -> str:
    """Format a margin; one of logarithms in percent, as predictions do: 0.05 is about 5 %."""
    margin = judged.prediction.margin
    assert margin is not None
    if judged.scale.is_ratio or judged.prediction.value.startswith("log_"):
        return f"{100 * margin:.3g} %"
    return judged.scale.format_difference(margin, "")


def count_verdicts(verdicts: Sequence[str]) -> str:
    """Format the number of each verdict, as in: 2 supported, 1 inconclusive."""
    counts = [(verdicts.count(name), SUM_LABELS.get(name, name)) for name in VERDICTS]
    return ", ".join(f"{count} {label}" for count, label in counts if count)


def describe_look(study: Study, budget: str, results: Results) -> str:
    """Describe the last look of a sequential design in one line."""
    looks = study.get_budget(budget).looks
    judged = judge_predictions(study, budget, results)
    n = max(len(values) for values in results.values())
    look = looks.index(n) + 1
    verdicts = count_verdicts([each.verdict for each in judged])
    return f"look {look} of up to {len(looks)}, {n} seeds per arm: {verdicts}"


def find_failed_arms(study: Study, results: Results) -> list[str]:
    """List the arms whose precision and recall are both near 0."""
    return [arm for arm in study.arms if _has_failed(results, arm)]


def _has_failed(results: Results, arm: str) -> bool:
    names = {name for values in results.get(arm, []) for name in values}
    for name in names:
        if name != "precision" and not name.startswith("precision_"):
            continue
        rates = [
            select_values(results, arm, rate)
            for rate in (name, name.replace("precision", "recall", 1))
        ]
        if all(rate and mean(rate) < MAX_FAILED_RATE for rate in rates):
            return True
    return False


def _describe_failure(prediction: Prediction, results: Results) -> str:
    """Describe how both arms of a prediction have failed, so that neither can be better, or ""."""
    if prediction.other is None:
        return ""
    arms = (prediction.arm, prediction.other)
    if all(_has_failed(results, arm) for arm in arms):
        return f"both arms fail, with precision and recall below {MAX_FAILED_RATE:g}"
    if all(_is_beaten_by_mean_image(results, arm, prediction.value) for arm in arms):
        return "both arms fail, the mean training image is as near to real images"
    return ""


def _is_beaten_by_mean_image(results: Results, arm: str, distance: str) -> bool:
    """Return True if the mean distance of an arm is no smaller than that of the mean image."""
    own = select_values(results, arm, distance)
    trivial = select_values(results, arm, f"{distance}_of_mean_image")
    return bool(own and trivial) and mean(own) >= mean(trivial)


def _describe_needed_seeds(prediction: Prediction, test: PredictionTest, tests: int) -> str:
    if math.isnan(test.effect.p):
        return "no exact test of a margin for so few distinct values"
    difference = test.effect.difference
    seeds = compute_needed_seeds(
        test.samples, difference - prediction.by, tests, difference, prediction.margin
    )
    if seeds is None:
        return "all values are equal, so no number of seeds decides"
    # the present seeds have not decided
    seeds = max(seeds, *(len(sample) + 1 for sample in test.samples))
    if seeds > MAX_SEEDS:
        return f"more than {MAX_SEEDS:,} seeds would decide"
    return f"about {seeds} seeds would decide"


def _count_missing(prediction: Prediction, results: Results, seeds: int) -> dict[str, int]:
    """Count the planned seeds without a finite value in each arm of a prediction."""
    arms = [arm for arm in (prediction.arm, prediction.other) if arm is not None]
    counts = {arm: seeds - len(select_values(results, arm, prediction.value)) for arm in arms}
    return {arm: count for arm, count in counts.items() if count > 0}


def _test_prediction(prediction: Prediction, results: Results) -> PredictionTest | None:
    """Test a prediction; None with fewer than ``SEEDS`` values."""
    arms = [arm for arm in (prediction.arm, prediction.other) if arm is not None]
    samples = [select_values(results, arm, prediction.value) for arm in arms]
    if min(map(len, samples)) < MIN_SEEDS:
        return None
    by, margin = prediction.by, prediction.margin
    bounds = [] if prediction.bound is None else [[prediction.bound]]
    scale, scaled = apply_scale(
        prediction.value, [*samples, *bounds], has_margin=bool(by or margin is not None)
    )
    if _is_share(prediction, samples[0]):
        scale, scaled = UNTOUCHED, [*samples, *bounds]
    sign = 1.0 if prediction.relation == "above" else -1.0
    scaled = [[sign * x for x in values] for values in scaled]
    if prediction.bound is not None:
        (limit,) = scaled.pop()
        effect = compare_with_bound(scaled[0], limit)
        p = compare_with_bound(scaled[0], limit + by).p if by else effect.p
        estimated = estimate([x - limit for x in scaled[0]])
    else:
        effect = welch(*scaled)
        estimated = estimate(*scaled)
        p = effect.p
        if by:
            # Shifted discrete values never coincide, so that a permutation test always finds them
            # different. No exact test of a margin is known for so few values.
            p = math.nan if any(map(is_discrete, scaled)) else estimated.compute_p(by)
    p_of_margin = math.nan
    if margin is not None and not any(map(is_discrete, scaled)):
        p_of_margin = estimated.compute_equivalence_p(margin)
    bound = ""
    # a negative by tolerates a base that cannot be exceeded
    if prediction.other is not None and by >= 0:
        base = set(samples[1])
        for name, value in (("floor", scale.low), ("ceiling", scale.high)):
            if base == {value}:
                bound = f"{name} effect, every value of {prediction.other} is {value:g}"
    return PredictionTest(
        scale=scale,
        values=samples,
        samples=scaled,
        effect=Effect(effect.difference, effect.low, effect.high, p),
        p_of_zero=effect.p,
        p_of_margin=p_of_margin,
        bound=bound,
    )


def _is_share(prediction: Prediction, values: Sequence[float]) -> bool:
    """Return True if a prediction is about the share of seeds whose value is 1, not 0."""
    return prediction.bound is not None and is_share(values, prediction.bound)


def select_values(results: Results, arm: str, value: str) -> list[float]:
    """Return a value of an arm for every seed in which it is finite."""
    found = (values.get(value) for values in results.get(arm, []))
    return [float(x) for x in found if isinstance(x, int | float) and math.isfinite(x)]


def format_values(results: Results, arm: str, value: str) -> str:
    """Format mean ± standard deviation over the seeds, with their number if some have no value."""
    found = select_values(results, arm, value)
    if not found:
        return ""
    text = mean_and_spread(mean(found), stdev(found) if len(found) > 1 else None)
    return text if len(found) == len(results[arm]) else f"{text} (n={len(found)})"
