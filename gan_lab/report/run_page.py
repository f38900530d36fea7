"""Render a page: what was read goes into a template, with the style, the script and the pictures in it.

Jinja escapes every value, and data for the script as JSON. The page tells the browser that nothing may be loaded, and
by its hash that no other script than its own may run.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gan_lab.report import curves, live, pictures
from gan_lab.report.command_lines import command_lines
from gan_lab.report.comparison_section import comparison
from gan_lab.report.summary import verdict
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

logger = logging.getLogger("gan_lab")
ASSETS = Path(__file__).parent / "assets"


def write(folders: Sequence[Path], out: Path | None = None, read: type[Run] = Run) -> Path:
    """Write the page of a run or of several; the path of the page.

    By default it is ``report.html`` in the folder of the run, ``comparison.html`` beside the folders of the
    experiments. ``read``: what reads a folder. Raises UserError for a folder that is not a run.
    """
    runs = [read(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    if not runs:
        raise UserError("a report is of a run folder, runs/<experiment>/<run id>, or of several")
    if len(runs) == 1:
        out = out or runs[0].folder / "report.html"
        text = render("run.html", **of_run(runs[0]))
    else:
        out = out or runs[0].folder.resolve().parent.parent / "comparison.html"
        text = render("comparison.html", **comparison(runs))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text, errors="replace")
    return out


def write_or_warn(folders: Sequence[Path]) -> None:
    """Write a page and log where; one that cannot be drawn is a warning, for the training is what counts."""
    try:
        logger.info(f"report: {write(folders)}")
    except Exception as error:
        warnings.warn(f"no report was drawn: {error}", stacklevel=2)


def render(template: str, **values: Any) -> str:
    """The text of a page."""
    style, script = (ASSETS / "page.css").read_text("utf-8"), _script()
    allowed = "default-src 'none'; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    allowed += f"style-src {_hash(style)}; script-src {_hash(script)}"
    return _templates().get_template(template).render(style=style, script=script, allowed=allowed, **values)


@cache
def _script() -> str:
    """The one script of a page: a worker runs it too, which has no document, and stops after the engine."""
    engine, live, page = ((ASSETS / f"{name}.js").read_text("utf-8") for name in ("engine", "live", "page"))
    return f'{engine}\nif (typeof document !== "undefined") {{\n{page}\n{live}\n}}\n'


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def of_run(run: Run) -> dict[str, Any]:
    """Collect the values of the template of one run."""
    grids = run.grids
    extras = {name: run.folder / f"{name}.png" for name in ("reals", "neighbours")}
    pages = {}
    for name, path in extras.items():
        with suppress(ValueError):  # a page that is not there, or torn
            pages[name], _ = pictures.picture(path, pictures.BUDGET // 5)
    left = pictures.BUDGET - sum(map(len, pages.values()))
    frames, note = pictures.within([path for _, path in grids], left)
    seen = [grids[i][0] for i in frames]
    charts = curves.of_run(run)
    model, why_not = live.of_run(run)
    thinned = any(one["step"] > 1 for _, group in charts for chart in group for one in chart["series"])
    return {
        "title": run.name,
        "run": run,
        "verdict": verdict(run),
        "frames": list(frames.values()),
        "seen": seen,
        "note": note,
        "pages": {name: pictures.uri(data) for name, data in pages.items()},
        "models": [model] if model else [],
        "examples": live.examples(run, model) if model else [],
        "why_not": why_not,
        "charts": charts,
        "thinned": thinned,
        "cost": _cost(run),
        "commands": command_lines(run),
        "data": {"charts": [chart for _, group in charts for chart in group], "seen": seen,
                 "models": [model] if model else [], "frames": list(frames.values())[:-1]},  # the last one stands in the page
    }  # fmt: skip


def _cost(run: Run) -> list[tuple[str, str]]:
    memory = run.state.get("peak_memory_mb")
    hours = run.hours
    return [
        ("training images seen", f"{run.images:,} of {run.wanted:,}"),
        ("speed", "not recorded" if run.speed is None else f"{run.speed:,.4g} images/s (median)"),
        (
            "training time",
            "not recorded" if not hours else f"{hours:.2f} hours" if hours >= 1 else f"{hours * 60:.1f} min",
        ),
        ("peak memory", "not recorded" if memory is None else f"{memory:,} MB"),
    ]
