"""A run in a notebook: headline, scores, newest sample grid and alerts."""

from __future__ import annotations

from html import escape

from gan_lab.report import pictures
from gan_lab.report.run_page import render_template
from gan_lab.report.summary import summarize_run
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError

MAX_GRID_BYTES = 1_000_000


def render_run(run: Run) -> str:
    """Render a run as an HTML fragment. If a file is damaged, the fragment is the error."""
    try:
        return render_template(
            "notebook.html", run=run, verdict=summarize_run(run), grid=_encode_newest_grid(run)
        )
    except UserError as error:
        return f"<p><code>{escape(run.shown_path)}</code><br>{escape(str(error))}</p>"


def _encode_newest_grid(run: Run) -> str:
    """Encode the newest grid that can be read as a data URI; empty if there is none."""
    for _, path in reversed(run.grids):
        try:
            data, _ = pictures.compress_image(path, MAX_GRID_BYTES)
        except UserError:
            continue
        return pictures.encode_data_uri(data)
    return ""
