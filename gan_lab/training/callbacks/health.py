"""Raise an alert when a training goes wrong: once when it begins, in one plain sentence.

The rules read the rows of ``metrics.csv`` and nothing else: all processes decide alike, and a run that was killed and
continued finds what an undisturbed one does.
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

# docs/health.md says on which runs these were chosen, and how far they are from either side.
YOUNG = 1_000  # iterations in which a generator may still be without diversity, or a discriminator ahead
LASTING = 3  # rows in turn, that have the values in question, before a finding begins, or is over
DIVERSE = 0.3  # of the reals' mean feature distance, and of that to the nearest other image
BALANCED = 0.5  # of the entropy of the reals' classes
CERTAIN = 0.99  # accuracy
VANISHING = 0.01  # of the largest gradient so far
RISING = (
    10  # rows in turn with such accuracies, over which the margin between the outputs still grows
)
EXPLODING = 100.0  # times the median of the rows before
HUGE, GROWN = (
    1e5,
    10.0,
)  # the norm of a gradient that is too large already when it has grown so many times
BEFORE = 100  # rows that the median is of, at most
KNOWN = 10  # and at least

COLLAPSE = (
    "the generated images hardly differ from each other, or few come again and again ({shares} of the reals'): the generator "
    "has collapsed. "
)
TRY = "Try a lower learning rate of the generator, a faster discriminator, or a gradient penalty (wgan_gp, r3gan)"
TRY_FIRST = "The discriminator has won: mend that first"
WON = (
    "the discriminator tells every real from every fake (accuracies {real:.3f} and {fake:.3f}) and "
)
VANISHED = (
    "the generator's gradient has all but vanished ({gradient:.2g}): it learns nothing any more. Try a lower learning rate of "
    "the discriminator, the non-saturating loss, label smoothing or instance noise"
)
LOST = (
    "grows still surer of it, the generator does not catch up (the margin between the outputs was {before:.3g} some rows "
    "ago, {now:.3g} now). Try a lower learning rate of the discriminator, a higher one of the generator, label smoothing, "
    "instance noise or a gradient penalty"
)
EXPLODED = (
    "the {name} has grown to {value:.3g} (median of the rows before: {usual:.3g}): the training is about to diverge. Try "
    "lower learning rates, a gradient penalty or spectral norm"
)
NO_NUMBERS = (
    "{values} not finite: the training cannot go on from here. Try lower learning rates, a gradient penalty, or "
    "run.precision=32-true where it was bf16-mixed; health.on_nan=rollback goes on from the last good checkpoint with other "
    "random numbers"
)


@dataclass
class AlertState:
    """Begins, and is over, once it has been seen ``LASTING`` times in turn."""

    turn: int = 0  # observations that were like the last
    last: bool = False
    raised: bool = False

    def begins(self, holds: bool) -> bool:
        """Take in one observation; True if the alert begins with it."""
        self.turn = self.turn + 1 if holds == self.last else 1
        self.last = holds
        if self.turn < LASTING or holds == self.raised:
            return False
        self.raised = holds
        return holds


@dataclass
class Rules:
    """State of the alert rules over the rows so far, and the rules. A plain tree of numbers: it goes into checkpoints."""

    conditions: dict[str, AlertState] = field(default_factory=dict)
    gradients: dict[str, list[float]] = field(
        default_factory=dict
    )  # of the rows before, by their names
    largest: dict[str, float] = field(default_factory=dict)
    margins: dict[str, list[float]] = field(
        default_factory=dict
    )  # of the rows in turn in which D is right, by suffix

    def read(self, row: Row, iteration: int) -> list[tuple[str, str]]:
        """The findings that begin with this row of means, each with its sentence."""
        self._note_margins(row)
        rules = {
            "discriminator_won": self._won,
            "collapse": self._collapse,
            "diverged": self._explosion,
        }
        new_alerts = []
        for kind, rule in rules.items():
            seen = rule(row, iteration)
            if seen is not None and self.conditions.setdefault(kind, AlertState()).begins(
                bool(seen)
            ):
                new_alerts.append((kind, seen))
        for name, value in row.items():
            if name.startswith("gradient_"):
                self.gradients[name] = [*self.gradients.get(name, []), value][-BEFORE:]
                self.largest[name] = max(self.largest.get(name, 0.0), value)
        return new_alerts

    def _collapse(self, row: Row, iteration: int) -> str | None:
        """The sentence, empty if all is well, None if the row says nothing of it: so with the rules below."""
        if "diversity" not in row or iteration < YOUNG:
            return None
        least = {"diversity": DIVERSE, "nearest_other": DIVERSE, "class_entropy": BALANCED}
        seen = {name: row[name] for name in least if name in row}
        if all(value >= least[name] for name, value in seen.items()):
            return ""
        shares = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in seen.items())
        won = "discriminator_won" in self.conditions and self.conditions["discriminator_won"].raised
        return COLLAPSE.format(shares=shares) + (TRY_FIRST if won else TRY)

    def _note_margins(self, row: Row) -> None:
        """Note how far apart the outputs are, for as long as the discriminator is right about all; "_back" is of a second one."""
        for suffix in ("", "_back"):
            if f"accuracy_real{suffix}" in row:
                certain = (
                    min(row[f"accuracy_real{suffix}"], row[f"accuracy_fake{suffix}"]) >= CERTAIN
                )
                margins = [
                    *self.margins.get(suffix, []),
                    row[f"d_real{suffix}"] - row[f"d_fake{suffix}"],
                ]
                self.margins[suffix] = margins[-RISING:] if certain else []

    def _won(self, row: Row, iteration: int) -> str | None:
        judged = {
            suffix: margins
            for suffix, margins in self.margins.items()
            if f"accuracy_real{suffix}" in row
        }
        if not judged or iteration < YOUNG:
            return None
        for suffix, margins in judged.items():
            gradient = row.get(f"gradient_generator{suffix}", math.inf)
            before, now = (
                statistics.median(half or [0.0])
                for half in (margins[: RISING // 2], margins[RISING // 2 :])
            )
            vanished = bool(margins) and gradient <= VANISHING * self.largest.get(
                f"gradient_generator{suffix}", 0.0
            )
            if vanished or (len(margins) == RISING and now > before):
                sentence = WON.format(
                    real=row[f"accuracy_real{suffix}"], fake=row[f"accuracy_fake{suffix}"]
                )
                return sentence + (VANISHED if vanished else LOST).format(
                    gradient=gradient, before=before, now=now
                )
        return ""

    def _explosion(self, row: Row, iteration: int) -> str | None:
        for name in [name for name in row if name.startswith("gradient_")]:
            before = self.gradients.get(name, [])
            usual = statistics.median(before) if before else 0.0
            known, grown = len(before) >= KNOWN, row[name] / usual if usual else 0.0
            if (row[name] > HUGE and grown > GROWN) or (known and grown > EXPLODING):
                return EXPLODED.format(
                    name=name.replace("_", " of the ", 1), value=row[name], usual=usual
                )
        return ""

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Rules:
        conditions = {name: AlertState(**values) for name, values in state["conditions"].items()}
        return cls(conditions, state["gradients"], state["largest"], state["margins"])


class Health(FamilyCallback):
    """Reports the alerts: on the console, in ``health.csv``, to trackers, and in the summary."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        csv_logger: CSVLogger,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.path, self.progress, self.csv_logger, self.trackers = (
            folder / "health.csv",
            progress,
            csv_logger,
            trackers,
        )
        self.alerts: list[Alert] = []
        self.rules = Rules()
        self._read: Row = {}

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        if trainer.is_global_zero:
            write_text(
                self.path, table(self.alerts)
            )  # without what the checkpoint does not know of

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: object) -> None:
        row = self.csv_logger.latest
        if not row or row is self._read:
            return
        self._read = row
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(bad, self.progress.iteration, self.progress.images)
        for kind, sentence in self.rules.read(row, self.progress.iteration):
            self.report(
                Alert(kind, self.progress.iteration, self.progress.images, sentence),
                trainer.is_global_zero,
            )

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        if isinstance(exception, DivergedError):
            sentence = NO_NUMBERS.format(values=exception.named)
            self.report(
                Alert("diverged", exception.iteration, exception.images, sentence),
                trainer.is_global_zero,
            )

    def report(self, alert: Alert, is_global_zero: bool) -> None:
        """Add a finding; the leader tells everyone."""
        self.alerts.append(alert)
        if is_global_zero:
            write_text(self.path, table(self.alerts))
            warnings.warn(
                f"{alert.kind} at {alert.images:,} images: {alert.sentence}", stacklevel=2
            )
            for tracker in self.trackers:
                tracker.alert(alert.kind, alert.sentence, alert.images)

    def state_dict(self) -> dict[str, Any]:
        return {"alerts": [asdict(alert) for alert in self.alerts], "rules": self.rules.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alerts = [Alert(**alert) for alert in state_dict["alerts"]]
        self.rules = Rules.from_state(state_dict["rules"])


def table(alerts: list[Alert]) -> str:
    """``health.csv``: one line for each finding, under a header."""
    columns = [item.name for item in fields(Alert)]
    return ",".join(columns) + "\n" + csv_lines((asdict(alert) for alert in alerts), columns)
