"""Reports the alerts of ``AlertRules``, and stops a run whose values are not finite."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.runs.alert import NOT_FINITE_PREFIX, Alert
from gan_lab.training.callbacks.alert_rules import AlertRules
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.csv_logger import CSVLogger, Row, csv_lines
from gan_lab.training.callbacks.finite_check import DivergedError
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.files import write_text

NOT_FINITE = NOT_FINITE_PREFIX + (
    "{values}. Try lower learning rates, a gradient penalty, or "
    "run.precision=32-true if it was bf16-mixed; health.on_nan=rollback resumes from the last good "
    "checkpoint with a new random seed"
)


class Health(FamilyCallback):
    """Reports alerts on the console, in ``health.csv``, to trackers and in ``summary.json``."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        csv_logger: CSVLogger,
        trackers: Sequence[Tracker] = (),
        loss: str = "nonsaturating",
    ) -> None:
        self.path = folder / "health.csv"
        self.progress = progress
        self.csv_logger = csv_logger
        self.trackers = trackers
        self.alerts: list[Alert] = []
        self.rules = AlertRules(budget=progress.iterations, loss=loss)
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
        self.rules.load(state_dict["rules"])


def format_csv(alerts: list[Alert]) -> str:
    """Format ``health.csv``: a header, and one line per alert."""
    columns = [item.name for item in fields(Alert)]
    return ",".join(columns) + "\n" + csv_lines((asdict(alert) for alert in alerts), columns)
