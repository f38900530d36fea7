"""Experiment trackers. An error in a tracker never stops the training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """Base class of experiment trackers, which receive rows, images and files on rank 0.

    Calls before ``start`` are ignored. Subclasses implement ``_open``, and the other methods with
    an underscore that they support.

    Attributes:
        name: Name of the tracker, for messages.
        id: The tracker's id of this run. Stored in the checkpoint, so that a resumed run keeps it.
        run: The tracker's run object while it is open.
    """

    name = ""
    id: str | None = None
    run: Any = None

    def start(self, images: int) -> None:
        """Open the run, new or resumed after ``images`` images."""
        self._safely(lambda: self._open(images))

    def log(self, row: Mapping[str, float]) -> None:
        """Log one row; its ``images`` are the step."""
        self._if_open(lambda: self._log(row))

    def log_image(self, title: str, path: Path, images: int) -> None:
        """Log an image."""
        self._if_open(lambda: self._log_image(title, path, images))

    def log_report(self, path: Path, images: int) -> None:
        """Log the HTML report of the run."""
        self._if_open(lambda: self._log_report(path, images))

    def log_checkpoint(self, path: Path) -> None:
        """Upload the best checkpoint of a finished run."""
        self._if_open(lambda: self._log_checkpoint(path))

    def alert(self, title: str, text: str, images: int) -> None:
        """Send an alert."""
        self._if_open(lambda: self._alert(title, text, images))

    def mark_preempted(self) -> None:
        """Mark the run as preempted: its job will be requeued and resume it."""
        self._if_open(self._mark_preempted)

    def finish(self, code: int = 0) -> None:
        """Close the run."""
        self._if_open(lambda: self._finish(code))
        self.run = None

    def _if_open(self, action: Callable[[], Any]) -> None:
        if self.run is not None:
            self._safely(action)

    def _safely(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            # A tracker must never stop a training.
            warnings.warn(f"{self.name} disabled for the rest of this run: {error}", stacklevel=2)
            self.run = None

    def _open(self, images: int) -> None:
        raise NotImplementedError

    def _log(self, row: Mapping[str, float]) -> None: ...

    def _log_image(self, title: str, path: Path, images: int) -> None: ...

    def _log_report(self, path: Path, images: int) -> None: ...

    def _log_checkpoint(self, path: Path) -> None: ...

    def _alert(self, title: str, text: str, images: int) -> None: ...

    def _mark_preempted(self) -> None: ...

    def _finish(self, code: int) -> None: ...
