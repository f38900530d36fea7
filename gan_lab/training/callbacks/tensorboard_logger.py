"""TensorBoard event files in the run folder; the step is the number of images seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.errors import import_extra


class TensorBoardLogger(Tracker):
    """Logs scalars, images and alerts to ``tensorboard/`` in the run folder."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        import_extra("tensorboard", "tensorboard", "log.tensorboard=true")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter

    def _open(self, images: int) -> None:
        # hide later steps of an interrupted run, which will be repeated
        self.run = self.writer(str(self.folder), purge_step=images + 1)

    def _describe(self) -> str:
        return f"TensorBoard files in {self.folder}: metrics, {self.describe_images()}"

    def _log(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name not in ("iteration", "images"):
                self.run.add_scalar(name, value, int(row["images"]))
        self.run.flush()

    def _log_image(self, title: str, path: Path, images: int) -> None:
        with Image.open(path) as picture:
            self.run.add_image(title, np.asarray(picture.convert("RGB")), images, dataformats="HWC")
        # otherwise the first pictures are not visible for two minutes
        self.run.flush()

    def _alert(self, title: str, text: str, images: int) -> None:
        self.run.add_text(f"alert/{title}", text, images)

    def _finish(self, code: int) -> None:
        self.run.close()
