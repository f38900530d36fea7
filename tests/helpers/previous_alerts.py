"""The alert rules before their redesign, for the column "before" of the table of scenarios.

Copied without messages and checkpoints; docs/health.md compares them with the current rules.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from gan_lab.training.callbacks.alert_rules import Row

# An untrained generator has no diversity, and an early discriminator is often ahead: no alert about
# collapse or dominance before this iteration.
WARMUP_ITERATIONS = 1_000
# Consecutive rows with the condition before an alert is raised, and without it before it is
# cleared.
MIN_CONSECUTIVE_ROWS = 3

# mode collapse: statistics of the sample grid relative to those of real images
MIN_RELATIVE_DIVERSITY = 0.3
MIN_RELATIVE_CLASS_ENTROPY = 0.5

# dominance: the discriminator is saturated if both its accuracies reach this value
SATURATED_ACCURACY = 0.99
# ... and the generator gets no signal if its gradient norm is below this fraction of its maximum,
VANISHED_GRADIENT_FRACTION = 0.01
# ... or falls behind if the margin d_real - d_fake grows over this many saturated rows.
MARGIN_TREND_ROWS = 10

# divergence: gradient norms relative to their median over the previous rows
MAX_GRADIENT_RATIO = 100.0
# A norm above this is too large even at a smaller ratio. The ratio excludes losses of a large
# scale, such as the summed likelihood of an autoencoder.
MAX_GRADIENT_NORM = 1e5
MAX_RATIO_OF_LARGE_GRADIENT = 10.0
# rows of the median: at most, and at least for MAX_GRADIENT_RATIO to apply
GRADIENT_HISTORY_ROWS = 100
MIN_GRADIENT_HISTORY_ROWS = 10


@dataclass
class AlertState:
    """Debounced state of one alert: raised or cleared after ``MIN_CONSECUTIVE_ROWS`` equal rows.

    The field names are part of the checkpoint format.

    Attributes:
        turn: Number of consecutive rows with the same observation.
        last: The latest observation.
        raised: True while the alert is active.
    """

    turn: int = 0
    last: bool = False
    raised: bool = False

    def update(self, observed: bool) -> bool:
        """Add the observation of one row; return True if it raises the alert."""
        self.turn = self.turn + 1 if observed == self.last else 1
        self.last = observed
        if self.turn < MIN_CONSECUTIVE_ROWS or observed == self.raised:
            return False
        self.raised = observed
        return observed


@dataclass
class PreviousRules:
    """The rules of 2.x, and their state over the rows so far.

    Each rule returns the message of its alert, an empty string if the row is healthy, and None if
    the row lacks the values that the rule needs. The state consists of plain numbers, since it is
    part of the checkpoint.

    Attributes:
        conditions: State of each alert, by kind.
        gradients: Gradient norms of the previous rows, by column.
        largest: Largest gradient norm so far, by column.
        margins: d_real - d_fake of the consecutive rows with a saturated discriminator, by suffix
            of the columns: "" and, for the second discriminator of CycleGAN, "_back".
    """

    conditions: dict[str, AlertState] = field(default_factory=dict)
    gradients: dict[str, list[float]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    margins: dict[str, list[float]] = field(default_factory=dict)

    def update(self, row: Row, iteration: int) -> list[tuple[str, str]]:
        """Apply the rules to a row of means.

        Returns:
            Kind and message of each alert that this row raises.
        """
        self._record_margins(row)
        rules = {
            "discriminator_won": self._check_dominance,
            "collapse": self._check_collapse,
            "diverged": self._check_gradients,
        }
        raised = []
        for kind, rule in rules.items():
            message = rule(row, iteration)
            if message is None:
                continue
            state = self.conditions.setdefault(kind, AlertState())
            if state.update(bool(message)):
                raised.append((kind, message))
        # after the rules, so that a norm is compared with those of the previous rows only
        for name, value in row.items():
            if name.startswith("gradient_"):
                history = [*self.gradients.get(name, []), value]
                self.gradients[name] = history[-GRADIENT_HISTORY_ROWS:]
                self.largest[name] = max(self.largest.get(name, 0.0), value)
        return raised

    def _check_collapse(self, row: Row, iteration: int) -> str | None:
        """Check the statistics of the sample grid, which only some rows have."""
        if "diversity" not in row or iteration < WARMUP_ITERATIONS:
            return None
        minima = {
            "diversity": MIN_RELATIVE_DIVERSITY,
            "nearest_other": MIN_RELATIVE_DIVERSITY,
            "class_entropy": MIN_RELATIVE_CLASS_ENTROPY,
        }
        values = {name: row[name] for name in minima if name in row}
        if all(value >= minima[name] for name, value in values.items()):
            return ""
        return "bad"

    def _record_margins(self, row: Row) -> None:
        """Record the margin of each saturated discriminator; other rows reset the trend."""
        for suffix in ("", "_back"):
            if f"accuracy_real{suffix}" not in row:
                continue
            accuracy = min(row[f"accuracy_real{suffix}"], row[f"accuracy_fake{suffix}"])
            if accuracy < SATURATED_ACCURACY:
                self.margins[suffix] = []
                continue
            margin = row[f"d_real{suffix}"] - row[f"d_fake{suffix}"]
            self.margins[suffix] = [*self.margins.get(suffix, []), margin][-MARGIN_TREND_ROWS:]

    def _check_dominance(self, row: Row, iteration: int) -> str | None:
        """Check that a saturated discriminator leaves the generator a useful, sufficient gradient.

        A saturating loss (minimax) makes the generator gradient vanish. With the other losses the
        gradient grows while the generator falls behind; then the growing margin is the symptom.
        """
        suffixes = [suffix for suffix in self.margins if f"accuracy_real{suffix}" in row]
        if not suffixes or iteration < WARMUP_ITERATIONS:
            return None
        for suffix in suffixes:
            margins = self.margins[suffix]
            if not margins:
                continue
            column = f"gradient_generator{suffix}"
            gradient = row.get(column, math.inf)
            if gradient <= VANISHED_GRADIENT_FRACTION * self.largest.get(column, 0.0):
                return "bad"
            if len(margins) == MARGIN_TREND_ROWS:
                # medians of the two halves are robust against single rows
                before = statistics.median(margins[: MARGIN_TREND_ROWS // 2])
                now = statistics.median(margins[MARGIN_TREND_ROWS // 2 :])
                if now > before:
                    return "bad"
        return ""

    def _check_gradients(self, row: Row, iteration: int) -> str | None:
        """Check the gradient norm of each network against the median of the previous rows."""
        for name in [name for name in row if name.startswith("gradient_")]:
            value = row[name]
            history = self.gradients.get(name, [])
            median = statistics.median(history) if history else 0.0
            ratio = value / median if median else 0.0
            is_huge = value > MAX_GRADIENT_NORM and ratio > MAX_RATIO_OF_LARGE_GRADIENT
            has_history = len(history) >= MIN_GRADIENT_HISTORY_ROWS
            if is_huge or (has_history and ratio > MAX_GRADIENT_RATIO):
                return "bad"
        return ""
