"""The rules of the health check: which rows of ``metrics.csv`` raise an alert.

The rules only read rows, the budget and the name of the loss. Therefore all ranks decide alike, and
a resumed run raises the same alerts as an uninterrupted one. docs/health.md has a table of
scenarios with the expected alerts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, float]

# An untrained generator has no diversity, and an early discriminator is often ahead. Alerts about
# images and dominance start after this share of the budget, within these limits.
WARMUP_SHARE = 0.2
MIN_WARMUP_ITERATIONS = 100
MAX_WARMUP_ITERATIONS = 1_000
# Consecutive rows with the condition before an alert is raised.
MIN_BAD_ROWS = 3
# Consecutive rows that are clearly healthy before it is cleared, so that it can be raised again.
MIN_HEALTHY_ROWS = 6

# Of each statistic of the images: the value from which a row is bad, and the value from which it is
# clearly healthy again. The first group is better if higher, the second if lower.
COLLAPSE_MINIMA = {
    "diversity": (0.3, 0.4),
    "nearest_other": (0.3, 0.4),
    "class_entropy": (0.5, 0.6),
    "class_diversity": (0.2, 0.3),
}
COLLAPSE_MAXIMA = {"repeats": (0.3, 0.2)}
COLOR_MINIMA = {"color_spread": (0.2, 0.3)}
NOISE_MAXIMA = {"noise": (0.5, 0.35)}
OVERFITTING_MAXIMA = {"overfitting_auc": (0.9, 0.8)}
# Within the first MAX_WARMUP_ITERATIONS, a generator whose distance to the reals still decreases by
# this factor within two checks is untrained, not collapsed.
IMPROVEMENT_FACTOR = 0.9
# The raw weights are bad if their distance to the reals exceeds that of the EMA weights by this
# factor and by this difference; they are healthy again below the second difference.
MAX_RAW_DISTANCE_RATIO = 2.0
MAX_RAW_DISTANCE_EXCESS = 0.5
HEALTHY_RAW_DISTANCE_EXCESS = 0.3

# dominance: the discriminator is saturated if both its accuracies reach the first value, and no
# longer if one of them falls below the second
SATURATED_ACCURACY = 0.99
UNSATURATED_ACCURACY = 0.95
# ... and the generator gets no signal if its gradient norm is below this fraction of its largest
# sustained value,
VANISHED_GRADIENT_FRACTION = 0.01
# ... or falls behind if the margin d_real - d_fake has a trend over the saturated rows: at least
# the first number of rows and at most the second, of which the medians of the first and the last
# ten differ by this fraction, with this z score of the Mann-Kendall test.
MIN_TREND_ROWS = 30
MAX_TREND_ROWS = 100
TREND_MEDIAN_ROWS = 10
MIN_MARGIN_GROWTH = 0.5
MIN_TREND_Z = 5.0
# With the hinge loss, a saturated discriminator has a loss of 0 and learns nothing if nearly all
# margins exceed 2, so that their mean is well above.
SATURATED_HINGE_MARGIN = 2.5
# Wasserstein critics estimate a distance: they are to separate the images, by a growing margin.
LOSSES_WITHOUT_MARGIN = ("wasserstein",)

# divergence: gradient norms relative to their median over the previous rows
MAX_GRADIENT_RATIO = 100.0
HEALTHY_GRADIENT_RATIO = 10.0
# A smaller norm is no divergence: a gradient may start near 0.
MIN_EXPLODING_NORM = 10.0
# A norm above this is too large even at a smaller ratio. The ratio excludes losses of a large
# scale, such as the summed likelihood of an autoencoder.
MAX_GRADIENT_NORM = 1e5
MAX_RATIO_OF_LARGE_GRADIENT = 10.0
# rows of the median: at most, and at least for MAX_GRADIENT_RATIO to apply
GRADIENT_HISTORY_ROWS = 100
MIN_GRADIENT_HISTORY_ROWS = 10
# rows of the median whose maximum is the largest sustained norm
SUSTAINED_ROWS = 3

COLLAPSE_MESSAGE = "mode collapse: the generated images are nearly identical or repeat ({values}). "
COLLAPSE_REMEDY = (
    "Try a lower generator learning rate, a higher discriminator learning rate, or a gradient "
    "penalty (wgan_gp, r3gan)"
)
DOMINATED_REMEDY = "The discriminator dominates: fix that first"
LOST_COLORS = (
    "the generated images have lost their colors: they are gray or have a single tint (spread of "
    "colors {values} relative to real images). Try a lower generator learning rate, and look at "
    "samples/"
)
NOISE_MESSAGE = (
    "the generated images are noise: neighboring pixels differ as in white noise ({values}; 0: as "
    "in real images, 1: white noise). Try lower learning rates, or another network"
)
RAW_WEIGHTS = (
    "the raw generator weights are much worse than their moving average (distance to real images "
    "{raw:.2f} instead of {ema:.2f}), which will follow them. Try lower learning rates, or stop "
    "and use best.ckpt"
)
OVERFITTING_MESSAGE = (
    "the discriminator overfits: it prefers a training image to a validation image with a "
    "probability of {value:.2f}. Try augment.policy=ada, more images, or a smaller discriminator"
)
NO_GRADIENT = (
    "the generator gets no gradient: its norm is exactly 0 ({name}). Try the non-saturating loss, "
    "a lower discriminator learning rate, or another activation; check that the loss depends on "
    "the generated images"
)
DOMINANCE_MESSAGE = (
    "the discriminator classifies all images correctly (accuracy {real:.3f} on reals, {fake:.3f} "
    "on fakes) and "
)
VANISHED_GRADIENT = (
    "the generator gradient has vanished (norm {gradient:.2g}). Try a lower discriminator learning "
    "rate, the non-saturating loss, label smoothing or instance noise"
)
GROWING_MARGIN = (
    "the margin between its outputs on reals and fakes keeps growing (from {before:.3g} to "
    "{now:.3g}), so the generator is not catching up. Try a lower discriminator learning rate, "
    "a higher generator learning rate, label smoothing, instance noise or a gradient penalty"
)
HINGE_SATURATED = (
    "its hinge loss is 0 (margin {margin:.3g}), so it learns nothing and the generator does not "
    "catch up. Try a lower discriminator learning rate, a higher generator learning rate, or a "
    "gradient penalty"
)
EXPLODING_GRADIENT = (
    "exploding gradient: the {name} norm is {value:.3g} (median of the previous rows: "
    "{median:.3g}). Try lower learning rates, a gradient penalty or spectral norm"
)


@dataclass(frozen=True)
class Observation:
    """The finding of a rule about a row: bad with a message, clearly healthy, or in between."""

    message: str = ""
    is_healthy: bool = False


HEALTHY = Observation(is_healthy=True)
IN_BETWEEN = Observation()


@dataclass
class AlertState:
    """State of one alert, with hysteresis.

    It is raised after ``MIN_BAD_ROWS`` consecutive bad rows, and cleared after ``MIN_HEALTHY_ROWS``
    consecutive rows that are clearly healthy. The field names are part of the checkpoint format.

    Attributes:
        turn: Number of consecutive rows with the same observation, bad or healthy; 0 after a row in
            between.
        last: Whether the latest such observation was bad.
        raised: True while the alert is active.
    """

    turn: int = 0
    last: bool = False
    raised: bool = False

    def update(self, observation: Observation) -> bool:
        """Add the observation of one row; return True if it raises the alert."""
        is_bad = bool(observation.message)
        if not is_bad and not observation.is_healthy:
            self.turn = 0
            return False
        self.turn = self.turn + 1 if is_bad == self.last else 1
        self.last = is_bad
        if is_bad and not self.raised and self.turn >= MIN_BAD_ROWS:
            self.raised = True
            return True
        if not is_bad and self.turn >= MIN_HEALTHY_ROWS:
            self.raised = False
        return False


@dataclass
class AlertRules:
    """The alert rules, and their state over the rows so far.

    The state consists of plain numbers, since it is part of the checkpoint.

    Attributes:
        budget: Iterations of the run; 0: unknown.
        loss: The name of the adversarial loss (``losses.LOSSES``).
        conditions: State of each alert, by kind.
        gradients: Gradient norms of the previous rows, by column.
        largest: Largest sustained gradient norm so far, by column.
        margins: d_real - d_fake of the rows since the discriminator is saturated, by suffix of the
            columns: "" and, for the second discriminator of CycleGAN, "_back".
        distances: ``sample_distance`` of the last checks.
    """

    budget: int = 0
    loss: str = "nonsaturating"
    conditions: dict[str, AlertState] = field(default_factory=dict)
    gradients: dict[str, list[float]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    margins: dict[str, list[float]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)

    @property
    def warmup_iterations(self) -> float:
        """The iteration from which alerts about images and dominance are raised."""
        if not self.budget:
            return MAX_WARMUP_ITERATIONS
        share = WARMUP_SHARE * self.budget
        return min(MAX_WARMUP_ITERATIONS, max(MIN_WARMUP_ITERATIONS, share))

    def update(self, row: Row, iteration: int) -> list[tuple[str, str]]:
        """Apply the rules to a row of means.

        Returns:
            Kind and message of each alert that this row raises.
        """
        self._record_margins(row)
        if "sample_distance" in row:
            self.distances = [*self.distances, row["sample_distance"]][-3:]
        observations: dict[str, Observation | None] = {
            "diverged": self._check_gradients(row),
            "no_gradient": self._check_zero_gradient(row),
        }
        if iteration >= self.warmup_iterations:
            observations["discriminator_won"] = self._check_dominance(row)
            if "diversity" in row:
                is_untrained = iteration < MAX_WARMUP_ITERATIONS and self._is_improving()
                for kind, check in (
                    ("collapse", self._check_collapse),
                    ("colors", _check_colors),
                    ("noise", _check_noise),
                ):
                    observation = check(row)
                    if is_untrained and observation and observation.message:
                        observation = IN_BETWEEN
                    observations[kind] = observation
                observations["raw_weights"] = _check_raw_weights(row)
                observations["overfitting"] = _check_overfitting(row)
        raised = []
        for kind, observation in observations.items():
            # None: the row lacks the values that the rule needs
            if observation is None:
                continue
            state = self.conditions.setdefault(kind, AlertState())
            if state.update(observation):
                raised.append((kind, observation.message))
        self._record_gradients(row)
        return raised

    def _record_gradients(self, row: Row) -> None:
        """Record the gradient norms, after the rules have compared them with previous rows."""
        for name, value in row.items():
            if not name.startswith("gradient_"):
                continue
            history = self.gradients.setdefault(name, [])
            _append(history, value, GRADIENT_HISTORY_ROWS)
            # the median excludes a peak of a single row
            if len(history) >= SUSTAINED_ROWS and value > self.largest.get(name, 0.0):
                sustained = statistics.median(history[-SUSTAINED_ROWS:])
                self.largest[name] = max(self.largest.get(name, 0.0), sustained)

    def _record_margins(self, row: Row) -> None:
        """Record the margin of each saturated discriminator, until it is clearly not saturated."""
        for suffix in ("", "_back"):
            if f"accuracy_real{suffix}" not in row:
                continue
            accuracy = min(row[f"accuracy_real{suffix}"], row[f"accuracy_fake{suffix}"])
            if accuracy < UNSATURATED_ACCURACY:
                self.margins[suffix] = []
            elif accuracy >= SATURATED_ACCURACY:
                margin = row[f"d_real{suffix}"] - row[f"d_fake{suffix}"]
                _append(self.margins.setdefault(suffix, []), margin, MAX_TREND_ROWS)

    def _check_dominance(self, row: Row) -> Observation | None:
        """Check that a saturated discriminator leaves the generator a useful, sufficient gradient.

        A saturating loss (minimax) makes the generator gradient vanish. With the other losses the
        gradient grows while the generator falls behind; then the growing margin is the symptom. The
        hinge loss stops growing the margin when it is 0.
        """
        suffixes = [suffix for suffix in ("", "_back") if f"accuracy_real{suffix}" in row]
        if not suffixes:
            return None
        is_healthy = True
        for suffix in suffixes:
            real, fake = row[f"accuracy_real{suffix}"], row[f"accuracy_fake{suffix}"]
            accuracy = min(real, fake)
            is_healthy &= accuracy < UNSATURATED_ACCURACY
            if accuracy < SATURATED_ACCURACY:
                continue
            reason = self._explain_dominance(row, suffix)
            if reason:
                return Observation(DOMINANCE_MESSAGE.format(real=real, fake=fake) + reason)
        return HEALTHY if is_healthy else IN_BETWEEN

    def _explain_dominance(self, row: Row, suffix: str) -> str:
        """Explain why a saturated discriminator is harmful; an empty string if it is not."""
        column = f"gradient_generator{suffix}"
        gradient = row.get(column, math.inf)
        # a gradient of exactly 0 has its own alert
        if 0 < gradient <= VANISHED_GRADIENT_FRACTION * self.largest.get(column, 0.0):
            return VANISHED_GRADIENT.format(gradient=gradient)
        margins = self.margins[suffix]
        if len(margins) < MIN_TREND_ROWS or self.loss in LOSSES_WITHOUT_MARGIN:
            return ""
        before = statistics.median(margins[:TREND_MEDIAN_ROWS])
        now = statistics.median(margins[-TREND_MEDIAN_ROWS:])
        if now - before >= MIN_MARGIN_GROWTH * abs(before) and compute_trend_z(margins) >= (
            MIN_TREND_Z
        ):
            return GROWING_MARGIN.format(before=before, now=now)
        if self.loss == "hinge" and statistics.median(margins[-MIN_TREND_ROWS:]) >= (
            SATURATED_HINGE_MARGIN
        ):
            return HINGE_SATURATED.format(margin=now)
        return ""

    def _check_zero_gradient(self, row: Row) -> Observation | None:
        """Check that the gradient of no generator is exactly 0."""
        names = [name for name in row if name.startswith("gradient_generator")]
        if not names:
            return None
        for name in names:
            if row[name] == 0:
                return Observation(NO_GRADIENT.format(name=name))
        return HEALTHY

    def _check_collapse(self, row: Row) -> Observation:
        """Check the diversity of the images, overall and of the least diverse class."""
        observation = _compare(row, COLLAPSE_MINIMA, COLLAPSE_MAXIMA)
        if observation is None or not observation.message:
            return observation or HEALTHY
        # For a dominated generator, advice to train the discriminator faster would be wrong.
        dominance = self.conditions.get("discriminator_won")
        is_dominated = dominance is not None and dominance.raised
        remedy = DOMINATED_REMEDY if is_dominated else COLLAPSE_REMEDY
        return Observation(COLLAPSE_MESSAGE.format(values=observation.message) + remedy)

    def _is_improving(self) -> bool:
        if len(self.distances) < 3:
            return False
        first, _, last = self.distances
        return last <= IMPROVEMENT_FACTOR * first

    def _check_gradients(self, row: Row) -> Observation | None:
        """Check the gradient norm of each network against the median of the previous rows."""
        found = None
        for name, value in row.items():
            if not name.startswith("gradient_"):
                continue
            found = found or HEALTHY
            if value <= MIN_EXPLODING_NORM:
                continue
            history = self.gradients.get(name, [])
            median = statistics.median(history) if history else 0.0
            ratio = value / median if median else 0.0
            is_huge = value > MAX_GRADIENT_NORM and ratio > MAX_RATIO_OF_LARGE_GRADIENT
            has_history = len(history) >= MIN_GRADIENT_HISTORY_ROWS
            if is_huge or (has_history and ratio > MAX_GRADIENT_RATIO):
                network = name.removeprefix("gradient_").replace("_", " ")
                return Observation(
                    EXPLODING_GRADIENT.format(
                        name=f"{network} gradient", value=value, median=median
                    )
                )
            if ratio > HEALTHY_GRADIENT_RATIO:
                found = IN_BETWEEN
        return found

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "conditions": {
                kind: {"turn": state.turn, "last": state.last, "raised": state.raised}
                for kind, state in self.conditions.items()
            },
            "gradients": {name: [*history] for name, history in self.gradients.items()},
            "largest": dict(self.largest),
            "margins": {suffix: [*margins] for suffix, margins in self.margins.items()},
            "distances": [*self.distances],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Older checkpoints have no ``distances``, and their ``largest`` can be a peak of a single
        row, compared to which a normal gradient has vanished.
        """
        self.conditions = {
            kind: AlertState(**values) for kind, values in state["conditions"].items()
        }
        self.gradients = {name: [*history] for name, history in state["gradients"].items()}
        self.largest = dict(state["largest"])
        if "distances" not in state:
            self.largest = {
                name: statistics.median(history)
                for name, history in self.gradients.items()
                if history
            }
        self.margins = {suffix: [*margins] for suffix, margins in state["margins"].items()}
        self.distances = [*state.get("distances", ())]


def _append(values: list[float], value: float, limit: int) -> None:
    """Append a value in place, and remove the oldest one above the limit."""
    values.append(value)
    if len(values) > limit:
        del values[0]


Limits = Mapping[str, tuple[float, float]]


def _compare(row: Row, minima: Limits, maxima: Limits) -> Observation | None:
    """Compare values with their limits; the message of a bad row lists all of them."""
    names = [name for name in (*minima, *maxima) if name in row]
    if not names:
        return None
    is_bad = any(row[name] < minima[name][0] for name in minima if name in row)
    is_bad |= any(row[name] > maxima[name][0] for name in maxima if name in row)
    if is_bad:
        return Observation(
            ", ".join(f"{name.replace('_', ' ')} {row[name]:.2f}" for name in names)
            + " relative to real images"
        )
    is_healthy = all(row[name] >= minima[name][1] for name in minima if name in row)
    is_healthy &= all(row[name] <= maxima[name][1] for name in maxima if name in row)
    return HEALTHY if is_healthy else IN_BETWEEN


def _check_colors(row: Row) -> Observation | None:
    """Check that images of a colored data set have colors."""
    observation = _compare(row, COLOR_MINIMA, {})
    if observation is None or not observation.message:
        return observation
    return Observation(LOST_COLORS.format(values=f"{row['color_spread']:.2f}"))


def _check_noise(row: Row) -> Observation | None:
    """Check that neighboring pixels are related."""
    observation = _compare(row, {}, NOISE_MAXIMA)
    if observation is None or not observation.message:
        return observation
    return Observation(NOISE_MESSAGE.format(values=f"{row['noise']:.2f}"))


def _check_overfitting(row: Row) -> Observation | None:
    """Check that the discriminator does not tell training images from validation images."""
    observation = _compare(row, {}, OVERFITTING_MAXIMA)
    if observation is None or not observation.message:
        return observation
    return Observation(OVERFITTING_MESSAGE.format(value=row["overfitting_auc"]))


def _check_raw_weights(row: Row) -> Observation | None:
    """Check that the raw weights are not much worse than their moving average."""
    if "sample_distance_raw" not in row or "sample_distance" not in row:
        return None
    raw, ema = row["sample_distance_raw"], row["sample_distance"]
    excess = raw - ema
    if excess > MAX_RAW_DISTANCE_EXCESS and raw > MAX_RAW_DISTANCE_RATIO * ema:
        return Observation(RAW_WEIGHTS.format(raw=raw, ema=ema))
    return HEALTHY if excess < HEALTHY_RAW_DISTANCE_EXCESS else IN_BETWEEN


def compute_trend_z(values: Sequence[float]) -> float:
    """Compute the z score of the Mann-Kendall test for an increasing trend, without ties.

    Source: Mann 1945 (doi 10.2307/1907187).
    """
    n = len(values)
    concordant = 0
    for i, value in enumerate(values):
        for later in values[i + 1 :]:
            concordant += (later > value) - (later < value)
    return concordant / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
