"""Somebody who watches a run from outside, beside its files. Whatever goes wrong there, the training goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """A service or a viewer that is told rows, pictures and files, by the first process alone; nothing before ``start``.

    A subclass says how in ``_open`` and in those of the other methods with an underscore that it has a place for.
    """

    name = ""
    id: str | None = (
        None  # the service's for this run, kept in the checkpoint so that a resumed run is the same run
    )
    run: Any = None  # what is written to, while it is open

    def start(self, images: int) -> None:
        """Begin, or go on after so many images."""
        self._safely(lambda: self._open(images))

    def log(self, row: Mapping[str, float]) -> None:
        """One row; ``images`` is its place on the axis."""
        self._if_open(lambda: self._log(row))

    def log_image(self, title: str, path: Path, images: int) -> None:
        """A picture, as it is after so many images."""
        self._if_open(lambda: self._log_image(title, path, images))

    def log_report(self, path: Path, images: int) -> None:
        """The page of the run."""
        self._if_open(lambda: self._log_report(path, images))

    def log_checkpoint(self, path: Path) -> None:
        """The checkpoint that a finished run has chosen."""
        self._if_open(lambda: self._log_checkpoint(path))

    def alert(self, title: str, text: str, images: int) -> None:
        """A message to whoever watches the run."""
        self._if_open(lambda: self._alert(title, text, images))

    def mark_preempted(self) -> None:
        """Say that the run will be continued: by the same job, once it is given machines again."""
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
        except Exception as error:  # by design: a tracker can never stop a training
            warnings.warn(f"{self.name} is off for the rest of this run: {error}", stacklevel=2)
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
