"""trackio: a local-first experiment tracker with the API of W&B; the step is the images seen."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_lab.training.callbacks.tracker import (
    SAMPLE_COLUMNS,
    FinalSample,
    Tracker,
    build_sample_rows,
)
from gan_lab.utils.errors import import_extra


class TrackioLogger(Tracker):
    """Logs rows, images, alerts and the table of final samples to trackio.

    Args:
        project: Name of the project.
        experiment: Name of the experiment, the group of the run.
        run_id: The id of the run folder.
        config: The config as plain containers.

    Raises:
        UserError: trackio is not installed.
    """

    name = "trackio"

    def __init__(self, project: str, experiment: str, run_id: str, config: dict[str, Any]) -> None:
        self.trackio: Any = import_extra("trackio", "trackio", "log.trackio=true")
        self.project = project
        self.experiment = experiment
        self.run_id = run_id
        self.config = config

    def _open(self, images: int) -> None:
        # trackio resumes a run by its name: without the id, a run that is overwritten would be
        # appended to the earlier one
        self.id = self.id or secrets.token_hex(4)
        # it prints how to open its dashboard
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = self.trackio.init(
                project=self.project,
                # a project has runs of several experiments
                name=f"{self.experiment}-{self.run_id}-{self.id}",
                group=self.experiment,
                config=self.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def _describe(self) -> str:
        space = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        target = f"Sending to trackio ({space}" if space else "trackio on this machine ("
        about = f"{', ' if space else ''}project {self.project})"
        content = f"config, metrics, {self.describe_images()}"
        return f"{target}{about}: {content}. Open it with `trackio show --project {self.project}`"

    def _log(self, row: Mapping[str, float]) -> None:
        values = {name: value for name, value in row.items() if name != "images"}
        self.run.log(values, step=int(row["images"]))

    def _log_image(self, title: str, path: Path, images: int) -> None:
        self.run.log({title: self.trackio.Image(str(path))}, step=images)

    def _log_samples(self, samples: Sequence[FinalSample], images: int) -> None:
        rows = build_sample_rows(samples, self.trackio.Image)
        table = self.trackio.Table(columns=[*SAMPLE_COLUMNS], data=rows)
        self.run.log({"final_samples": table}, step=images)

    def _alert(self, title: str, text: str, images: int) -> None:
        # it prints the alert, which the console already has
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.alert(title=title, text=f"{images:,} images: {text}")

    def _finish(self, code: int) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()
