"""The page of all runs below a folder: thumbnails, search, commands that compare a selection."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from gan_lab.report import pictures
from gan_lab.report.run_page import render
from gan_lab.runs.environment import is_started_by_make, name_program
from gan_lab.runs.run_list import ListedRun
from gan_lab.utils.files import write_text
from gan_lab.utils.numbers import format_rounded
from gan_lab.utils.output import OutputFiles

PAGE_NAME = "index.html"
THUMBNAIL_SIDE = 224
THUMBNAIL_QUALITY = 60


def write_index(runs: Sequence[ListedRun], folder: Path) -> Path:
    """Write ``index.html`` into the parent folder of runs; return its path.

    Raises:
        UserError: The folder has a file of this name that the lab did not write.
    """
    files, path = OutputFiles(overwrite=True), folder / PAGE_NAME
    files.check(path)
    text = render_index(runs, folder)
    with files.write(path) as unfinished:
        write_text(unfinished, text, errors="replace")
    return path


def render_index(runs: Sequence[ListedRun], folder: Path) -> str:
    """Render the page; its links are relative to the folder."""
    # decoding images releases the interpreter lock
    with ThreadPoolExecutor() as pool:
        thumbnails = list(pool.map(make_thumbnail, [run.grid for run in runs]))
    cards = [
        collect_card(run, folder, thumbnail)
        for run, thumbnail in zip(runs, thumbnails, strict=True)
    ]
    return render(
        "index.html",
        title=f"{len(runs):,} runs",
        folder=str(folder),
        program=name_program(is_started_by_make()),
        cards=sorted(cards, key=lambda card: -card["changed"]),
        statuses=sorted({run.status for run in runs}),
        data={"charts": [], "seen": [], "frames": [], "models": []},
    )


def make_thumbnail(grid: Path | None) -> str:
    """Return the last grid of a run in small as a data URI; empty if there is none to read."""
    if grid is None:
        return ""
    try:
        with Image.open(grid) as image:
            small = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return ""
    # the upper left quarter of a large grid shows more than the whole of it
    side = min(small.width, small.height, max(THUMBNAIL_SIDE, min(small.size) // 2))
    small = small.crop((0, 0, side, side))
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=THUMBNAIL_QUALITY, method=2)
    return pictures.encode_data_uri(file.getvalue())


def collect_card(run: ListedRun, folder: Path, thumbnail: str) -> dict[str, Any]:
    """Collect the values of the template for one run."""
    inside = run.path.relative_to(folder)
    report = inside / "report.html"
    sign = -1 if run.higher_is_better else 1
    return {
        "run": run,
        "name": str(inside) if inside.parts else run.name,
        "link": quote(report.as_posix()) if (folder / report).is_file() else "",
        "argument": shlex.quote(str(run.path)),
        "thumbnail": thumbnail,
        "score": "" if run.value is None else format_rounded(run.value, 4),
        # the best first
        "rank": "" if run.value is None else sign * run.value,
        "changed": run.changed,
    }
