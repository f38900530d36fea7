"""Render a page: what was read goes into a template, with the style, the script and the pictures in it.

Jinja escapes every value, and data for the script as JSON. The page tells the browser that nothing
may be loaded, and by its hash that no other script than its own may run.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
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
from gan_lab.utils.files import make_file_name, write_text

logger = logging.getLogger("gan_lab")
ASSETS = Path(__file__).parent / "assets"


def write(folders: Sequence[Path | Run], out: Path | None = None) -> Path:
    """Write the page of a run or of several, each a folder or a ``Run``; return the path of the page.

    By default it is ``report.html`` in the folder of the run, or a file next to the folders of the
    experiments that is named by the runs. A damaged file of results is left out with a warning. Raises
    UserError for a folder that is not a run.
    """
    opened = [folder if isinstance(folder, Run) else Run(folder) for folder in folders]
    runs = list({run.path.resolve(): run for run in opened}.values())
    if not runs:
        raise UserError("a report is of a run folder, runs/<experiment>/<run id>, or of several")
    for run in runs:
        _leave_out_damaged_results(run)
    if len(runs) == 1:
        out = out or runs[0].path / "report.html"
        text = render("run.html", **collect_values(runs[0]))
    else:
        out = out or runs[0].path.resolve().parent.parent / name_comparison(runs)
        text = render("comparison.html", **comparison(runs))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text, errors="replace")
    return out


def name_comparison(runs: Sequence[Run]) -> str:
    """Return the file name of a comparison: the experiments, and a hash of the run folders."""
    experiments = dict.fromkeys(Path(run.experiment).stem for run in runs)
    paths = "\n".join(sorted(str(run.path.resolve()) for run in runs))
    digest = hashlib.sha256(os.fsencode(paths)).hexdigest()[:8]
    return make_file_name("-".join(["comparison", *experiments, digest])) + ".html"


def _leave_out_damaged_results(run: Run) -> None:
    """Replace a damaged ``summary.json`` or ``scores.json`` by an empty one, with a warning that names the file."""
    for part in ("summary", "recorded_directions"):
        try:
            getattr(run, part)
        except UserError as error:
            warnings.warn(f"the page is drawn without it: {error}", stacklevel=3)
            setattr(run, part, {})


def write_or_warn(folders: Sequence[Path]) -> None:
    """Write a page and log its path; warn if it cannot be drawn, so that the training does not fail."""
    try:
        logger.info(f"report: {write(folders)}")
    except Exception as error:
        warnings.warn(f"no report was drawn: {error}", stacklevel=2)


def render_template(template: str, **values: Any) -> str:
    """Render a file of ``assets``, every value escaped."""
    return _templates().get_template(template).render(**values)


def render(template: str, **values: Any) -> str:
    """Render a whole page, with its style and its script."""
    style, script = (ASSETS / "page.css").read_text("utf-8"), _script()
    allowed = (
        "default-src 'none'; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    )
    allowed += f"style-src {_hash(style)}; script-src {_hash(script)}"
    return render_template(template, style=style, script=script, allowed=allowed, **values)


@cache
def _script() -> str:
    """The one script of a page: a worker runs it too, which has no document, and stops after the engine."""
    engine, live, page = (
        (ASSETS / f"{name}.js").read_text("utf-8") for name in ("engine", "live", "page")
    )
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


def collect_values(run: Run) -> dict[str, Any]:
    """Collect the values of the template of one run."""
    grids = run.grids
    extras = {name: run.path / f"{name}.png" for name in ("reals", "neighbours")}
    pages = {}
    for name, path in extras.items():
        with suppress(UserError):  # a picture that is missing or torn
            pages[name], _ = pictures.picture(path, pictures.BUDGET // 5)
    left = pictures.BUDGET - sum(map(len, pages.values()))
    frames, note = pictures.within([path for _, path in grids], left)
    seen = [grids[i][0] for i in frames]
    charts = curves.build_charts(run)
    model, why_not = live.describe_run(run)
    thinned = any(
        one["step"] > 1 for _, group in charts for chart in group for one in chart["series"]
    )
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
    missing = "not recorded"
    memory, hours = run.summary.get("peak_memory_mb"), run.hours
    duration = f"{hours:.2f} hours" if hours >= 1 else f"{hours * 60:.1f} min"
    return [
        ("training images seen", f"{run.images:,} of {run.budget_images:,}"),
        ("speed", missing if run.speed is None else f"{run.speed:,.4g} images/s (median)"),
        ("training time", duration if hours else missing),
        ("peak memory", missing if memory is None else f"{memory:,} MB"),
    ]
