"""Alerts for mode collapse, a discriminator that dominates, and divergence.

The rules only read the rows of ``metrics.csv``. Therefore all ranks decide alike, and a resumed run
raises the same alerts as an uninterrupted one. docs/health.md lists the runs on which the
thresholds were chosen, and how close healthy runs come to them.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.runs.alert import Alert
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.csv_logger import CSVLogger, Row, csv_lines
from gan_lab.training.callbacks.finite_check import DivergedError
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.files import write_text

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

COLLAPSE = (
    "mode collapse: the generated images are nearly identical or repeat ({values} relative to real "
    "images). "
)
COLLAPSE_REMEDY = (
    "Try a lower generator learning rate, a higher discriminator learning rate, or a gradient "
    "penalty (wgan_gp, r3gan)"
)
DOMINATED_REMEDY = "The discriminator dominates: fix that first"
DOMINANCE = (
    "the discriminator classifies all images correctly (accuracy {real:.3f} on reals, {fake:.3f} "
    "on fakes) and "
)
VANISHED_GRADIENT = (
    "the generator gradient has vanished (norm {gradient:.2g}). Try a lower discriminator learning "
    "rate, the non-saturating loss, label smoothing or instance noise"
)
GROWING_MARGIN = (
    "the margin between its outputs on reals and fakes keeps growing (from {before:.3g} to "
    "{now:.3g}), so the generator is not catching up. Try a lower discriminator learning rate, a higher "
    "generator learning rate, label smoothing, instance noise or a gradient penalty"
)
EXPLODING_GRADIENT = (
    "exploding gradient: the {name} norm is {value:.3g} (median of the previous rows: "
    "{median:.3g}). Try lower learning rates, a gradient penalty or spectral norm"
)
NOT_FINITE = (
    "NaN or Inf in {values}. Try lower learning rates, a gradient penalty, or "
    "run.precision=32-true if it was bf16-mixed; health.on_nan=rollback resumes from the last good "
    "checkpoint with a new random seed"
)


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
class AlertRules:
    """The alert rules, and their state over the rows so far.

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
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in values.items())
        # For a dominated generator, advice to train the discriminator faster would be wrong.
        dominance = self.conditions.get("discriminator_won")
        is_dominated = dominance is not None and dominance.raised
        return COLLAPSE.format(values=shown) + (
            DOMINATED_REMEDY if is_dominated else COLLAPSE_REMEDY
        )

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
            accuracies = DOMINANCE.format(
                real=row[f"accuracy_real{suffix}"], fake=row[f"accuracy_fake{suffix}"]
            )
            if gradient <= VANISHED_GRADIENT_FRACTION * self.largest.get(column, 0.0):
                return accuracies + VANISHED_GRADIENT.format(gradient=gradient)
            if len(margins) == MARGIN_TREND_ROWS:
                # medians of the two halves are robust against single rows
                before = statistics.median(margins[: MARGIN_TREND_ROWS // 2])
                now = statistics.median(margins[MARGIN_TREND_ROWS // 2 :])
                if now > before:
                    return accuracies + GROWING_MARGIN.format(before=before, now=now)
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
                network = name.removeprefix("gradient_").replace("_", " ")
                return EXPLODING_GRADIENT.format(
                    name=f"{network} gradient", value=value, median=median
                )
        return ""

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> AlertRules:
        """Restore the rules from the state in a checkpoint."""
        conditions = {name: AlertState(**values) for name, values in state["conditions"].items()}
        return cls(conditions, state["gradients"], state["largest"], state["margins"])


class Health(FamilyCallback):
    """Reports alerts on the console, in ``health.csv``, to trackers and in ``summary.json``."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        csv_logger: CSVLogger,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.path = folder / "health.csv"
        self.progress = progress
        self.csv_logger = csv_logger
        self.trackers = trackers
        self.alerts: list[Alert] = []
        self.rules = AlertRules()
        self._checked_row: Row = {}

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        # drops alerts of iterations after the checkpoint, which will be repeated
        if trainer.is_global_zero:
            write_text(self.path, format_csv(self.alerts))

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        row = self.csv_logger.latest
        if not row or row is self._checked_row:
            return
        self._checked_row = row
        not_finite = [name for name, value in row.items() if not math.isfinite(value)]
        if not_finite:
            raise DivergedError(not_finite, self.progress.iteration, self.progress.images)
        for kind, message in self.rules.update(row, self.progress.iteration):
            alert = Alert(kind, self.progress.iteration, self.progress.images, message)
            self.report(alert, trainer.is_global_zero)

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        if isinstance(exception, DivergedError):
            message = NOT_FINITE.format(values=exception.named)
            alert = Alert("diverged", exception.iteration, exception.images, message)
            self.report(alert, trainer.is_global_zero)

    def report(self, alert: Alert, is_global_zero: bool) -> None:
        """Record an alert on every rank; rank 0 also writes, prints and sends it."""
        self.alerts.append(alert)
        if is_global_zero:
            write_text(self.path, format_csv(self.alerts))
            warnings.warn(
                f"{alert.kind} at {alert.images:,} images: {alert.sentence}", stacklevel=2
            )
            for tracker in self.trackers:
                tracker.alert(alert.kind, alert.sentence, alert.images)

    def state_dict(self) -> dict[str, Any]:
        return {"alerts": [asdict(alert) for alert in self.alerts], "rules": self.rules.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alerts = [Alert(**alert) for alert in state_dict["alerts"]]
        self.rules = AlertRules.from_state(state_dict["rules"])


def format_csv(alerts: list[Alert]) -> str:
    """Format ``health.csv``: a header, and one line per alert."""
    columns = [item.name for item in fields(Alert)]
    return ",".join(columns) + "\n" + csv_lines((asdict(alert) for alert in alerts), columns)
