"""Progress display for notebooks: progress bar, latest losses and scores, and sample grid."""

from __future__ import annotations

import base64
import html
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.csv_logger import CSVLogger, Row
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.time_left import TimeLeft

REDRAW_INTERVAL_S = 1.0


def in_notebook() -> bool:
    """Return whether this is a Jupyter kernel, whose output cells can show HTML."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class NotebookDisplay(FamilyCallback):
    """Redraws one output cell about once a second while the training runs."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        csv_logger: CSVLogger,
        evaluation: Evaluation,
        time_left: TimeLeft,
    ) -> None:
        self.folder = folder
        self.time_left = time_left
        self.progress = progress
        self.csv_logger = csv_logger
        self.evaluation = evaluation
        self.handle: Any = None
        self.scores: Row = {}
        self._drawn_at = 0.0

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        from IPython.display import HTML, display

        self.time_left.start()
        self.handle = display(HTML(self.render()), display_id=True)

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        if self.evaluation.evaluated:
            self.scores = dict(self.evaluation.scores)
        if self.progress.spent or time.monotonic() - self._drawn_at >= REDRAW_INTERVAL_S:
            self.draw()

    def on_exception(self, trainer: Trainer, family: Family, exception: BaseException) -> None:
        self.draw()

    def draw(self) -> None:
        """Redraw the cell."""
        from IPython.display import HTML

        self._drawn_at = time.monotonic()
        if self.handle is not None:
            self.handle.update(HTML(self.render()))

    def render(self) -> str:
        """Render the content of the cell as HTML."""
        total = self.progress.iterations * self.progress.batch_size
        images = self.progress.images
        speed = self.time_left.images_per_s
        left = f", {self.time_left}" if images < total and str(self.time_left) else ""
        losses = {
            name: value for name, value in self.csv_logger.latest.items() if name.startswith("loss")
        }
        values = " · ".join(
            f"{html.escape(name)} {value:.4g}" for name, value in (losses | self.scores).items()
        )
        parts = [
            f'<progress value="{images}" max="{total}" style="width:20em"></progress> '
            f"{images:,} of {total:,} images, {speed:,.0f} images/s{left}",
            f"<small>{values}</small>",
        ]
        grids = sorted((self.folder / "samples").glob("[0-9]*.png"))
        if grids:
            data = base64.b64encode(grids[-1].read_bytes()).decode()
            parts.append(
                f'<img src="data:image/png;base64,{data}" alt="Samples" '
                'style="max-width:360px;image-rendering:pixelated">'
                f"<small>samples after {int(grids[-1].stem):,} images</small>"
            )
        return "<br>".join(parts)
