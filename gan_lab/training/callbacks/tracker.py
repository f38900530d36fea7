"""Experiment trackers. An error in a tracker never stops the training."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gan_lab import report
from gan_lab.runs.run import Run
from gan_lab.utils.files import write_text
from gan_lab.utils.provenance import crop_generated

# columns of the table of final samples
SAMPLE_COLUMNS = ("class", "seed", "image")


@dataclass(frozen=True)
class FinalSample:
    """A generated image of a finished run, as ``gan-lab sample --n 1 --seed`` draws it.

    Attributes:
        class_name: The name of its class; empty for an unconditional generator.
        seed: The seed of its latent.
        picture: The image.
    """

    class_name: str
    seed: int
    picture: Image.Image


def build_sample_rows(
    samples: Sequence[FinalSample], make_image: Callable[[Image.Image], Any]
) -> list[list[Any]]:
    """Build the rows of the table of final samples, with pictures as images of the tracker."""
    return [[each.class_name, each.seed, make_image(each.picture)] for each in samples]


class Tracker:
    """Base class of experiment trackers, which receive rows, images and files on rank 0.

    Calls before ``start`` are ignored. Subclasses implement ``_open``, and the other methods with
    an underscore that they support.

    Attributes:
        name: Name of the tracker, for messages.
        id: The tracker's id of this run. Stored in the checkpoint, so that a resumed run keeps it.
        run: The tracker's run object while it is open.
        sends_reals: Whether it receives real images. If not, grids and the report page are reduced
            to generated images.
    """

    name = ""
    id: str | None = None
    run: Any = None
    sends_reals = True

    def start(self, images: int) -> None:
        """Open the run, new or resumed after ``images`` images."""
        self._safely(lambda: self._open(images))

    def log(self, row: Mapping[str, float]) -> None:
        """Log one row; its ``images`` are the step."""
        self._if_open(lambda: self._log(row))

    def log_image(self, title: str, path: Path, images: int) -> None:
        """Log an image of the lab, without real images unless ``sends_reals``."""

        def log_generated() -> None:
            picture = crop_generated(path)
            if picture is not None:
                with tempfile.TemporaryDirectory() as folder:
                    reduced = Path(folder) / path.name
                    picture.save(reduced)
                    self._log_image(title, reduced, images)

        if self.sends_reals:
            self._if_open(lambda: self._log_image(title, path, images))
        else:
            self._if_open(log_generated)

    def log_report(self, path: Path, images: int) -> None:
        """Log the HTML report of the run, without real images unless ``sends_reals``."""

        def log_generated() -> None:
            run = Run(path.parent).published()
            with tempfile.TemporaryDirectory() as folder:
                page = Path(folder) / path.name
                write_text(page, report.render_runs([run], reals=False), errors="replace")
                self._log_report(page, images)

        if type(self)._log_report is Tracker._log_report:
            return
        if self.sends_reals:
            self._if_open(lambda: self._log_report(path, images))
        else:
            self._if_open(log_generated)

    def describe(self) -> str:
        """Describe what is sent where, for the first lines of a training; empty if it is closed."""
        return self._describe() if self.run is not None else ""

    def describe_images(self) -> str:
        """Describe which images are sent."""
        if self.sends_reals:
            return "sample grids and real images"
        return "generated images only (real ones too: log.wandb_reals=true)"

    @property
    def takes_samples(self) -> bool:
        """True if ``log_samples`` logs something."""
        return self.run is not None and type(self)._log_samples is not Tracker._log_samples

    def log_samples(self, samples: Sequence[FinalSample], images: int) -> None:
        """Log a table of generated images of a finished run."""
        self._if_open(lambda: self._log_samples(samples, images))

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

    def _describe(self) -> str:
        return f"{self.name}: {self.describe_images()}"

    def _log(self, row: Mapping[str, float]) -> None: ...

    def _log_image(self, title: str, path: Path, images: int) -> None: ...

    def _log_report(self, path: Path, images: int) -> None: ...

    def _log_samples(self, samples: Sequence[FinalSample], images: int) -> None: ...

    def _log_checkpoint(self, path: Path) -> None: ...

    def _alert(self, title: str, text: str, images: int) -> None: ...

    def _mark_preempted(self) -> None: ...

    def _finish(self, code: int) -> None: ...
