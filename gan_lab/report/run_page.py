"""Render a self-contained page from a template, with its style, script and images.

Jinja escapes every value, and data for the script as JSON. The page's content security policy
forbids loading anything and running any script except its own, which it identifies by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import shlex
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gan_lab.report import curves, pictures
from gan_lab.report.command_lines import command_lines
from gan_lab.report.summary import summarize_run
from gan_lab.runs.environment import name_program
from gan_lab.runs.run import Run, find_family_class
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import make_file_name, write_text
from gan_lab.utils.output import OutputFiles
from gan_lab.utils.provenance import read_record

if TYPE_CHECKING:
    from gan_lab.metrics.explanations import Explanation
    from gan_lab.runs.ema_networks import EMANetworks

logger = logging.getLogger("gan_lab")
# seconds after which the page of a running training reloads itself, if another process wrote it
RELOAD_S = 30.0
# the data of a page for its script, see base.html
PAGE_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
# only in the page of a running training, see run.html
LIVE_MARK = b' id="training">'
# of a grid, whose record anyone could have written
MAX_TITLED_COLUMNS = 12
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Training:
    """The state of a training that is running, for its page.

    Attributes:
        images: Training images seen so far.
        total: The budget in images.
        stage: What the training does, such as "Training".
        left: The time left as text; may be empty.
        next_s: Estimated seconds until the page is written again.
    """

    images: int
    total: int
    stage: str
    left: str
    next_s: float


def write_live(folder: Path, networks: EMANetworks | None, training: Training) -> Path:
    """Write the page of a run during its training, which reloads itself; return its path.

    Args:
        folder: The run folder.
        networks: The present networks; None for a run without a generator.
        training: The state of the training.

    Raises:
        UserError: The page cannot be written, or has been edited.
    """
    run = Run(folder)
    page = folder / "report.html"
    text = render("run.html", **collect_values(run, networks, training))
    with OutputFiles(default_path=True).write(page) as unfinished:
        write_text(unfinished, text, errors="replace")
    return page


def is_live(folder: Path) -> bool:
    """Return whether the page of a run is that of a running training, which reloads itself."""
    try:
        return LIVE_MARK in (folder / "report.html").read_bytes()
    except OSError:
        return False


def is_outdated(folder: Path) -> bool:
    """Return whether the page of a finished run is missing, or older than its scores."""
    page = folder / "report.html"
    if not page.is_file() or is_live(folder):
        return True
    return page.stat().st_mtime < (folder / "summary.json").stat().st_mtime


def write(folders: Sequence[Path | Run], out: Path | None = None, overwrite: bool = True) -> Path:
    """Write the page of a run, or of several runs side by side; return its path.

    A damaged file of results is left out with a warning.

    Args:
        folders: Run folders or runs.
        out: The HTML file. Default: ``report.html`` in the folder of the run, or
            ``comparison-<experiments>-<hash>.html`` next to the folders of the experiments.
        overwrite: Replace an earlier page at ``out``.

    Raises:
        UserError: A folder is not a run, or ``out`` is a file that the lab did not write, or that
            has changed since.
    """
    runs = _open_runs(folders)
    page = runs[0].path / "report.html"
    if len(runs) == 1 and out is not None and out.resolve() == page.resolve():
        out = None
    # the lab replaces its own pages at the paths that it chooses
    files = OutputFiles(overwrite, default_path=out is None)
    is_own_page = out is None and len(runs) == 1
    if is_own_page:
        out = page
    elif out is None:
        out = runs[0].path.resolve().parent.parent / name_comparison(runs)
    files.check(out)
    text = _render_own_page(runs[0]) if is_own_page else render_runs(runs)
    with files.write(out) as unfinished:
        write_text(unfinished, text, errors="replace")
    return out


def _render_own_page(run: Run) -> str:
    """Render the page in the folder of a run.

    It reloads itself if another process is training the run. A training that calls this has ended.
    """
    # imported here, because it needs torch
    from gan_lab.runs.run_folder import RunFolder

    _skip_damaged_results(run)
    training = None
    if run.status == "unfinished" and RunFolder(run.path).is_locked_elsewhere:
        training = Training(run.images, run.budget_images, "Training", "", RELOAD_S)
    values = collect_values(run, training=training, earlier=_read_model(run.path / "report.html"))
    return render("run.html", **values)


def _read_model(page: Path) -> dict[str, Any] | None:
    """Read the description of the networks from a page of the lab; None if it has none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        data = PAGE_DATA.search(page.read_text(encoding="utf-8"))
        for model in json.loads(data[1])["models"] if data else []:
            return dict(model)
    return None


def render_runs(folders: Sequence[Path | Run], reals: bool = True) -> str:
    """Render the page of a run, or of several runs side by side.

    Args:
        folders: Run folders or runs.
        reals: Whether the page of a run shows real images. Those of several runs show the last
            grids as they are.
    """
    runs = _open_runs(folders)
    # the index of runs, which needs no torch, is rendered by this module too
    from gan_lab.report.comparison_section import collect_comparison_values

    for run in runs:
        _skip_damaged_results(run)
    if len(runs) == 1:
        return render("run.html", **collect_values(runs[0], reals=reals))
    return render("comparison.html", **collect_comparison_values(runs))


def render_site(
    folder: Path | Run, reals: bool = False, networks: EMANetworks | None = None
) -> tuple[str, dict[str, Any] | None]:
    """Render the page of a run for publication.

    Args:
        folder: The run.
        reals: Whether the page shows real images.
        networks: The published networks; by default those of the best checkpoint.

    Returns:
        The page, and the description of its networks; None if it has none.
    """
    (run,) = _open_runs([folder])
    _skip_damaged_results(run)
    values = collect_values(run, networks, reals=reals)
    return render("run.html", **values), next(iter(values["models"]), None)


def _open_runs(folders: Sequence[Path | Run]) -> list[Run]:
    """Open each run once. Raises UserError if there is none."""
    opened = [folder if isinstance(folder, Run) else Run(folder) for folder in folders]
    runs = list({run.path.resolve(): run for run in opened}.values())
    if not runs:
        raise UserError(
            "A report needs a run. Pass one or more run folders, runs/<experiment>/<run id>."
        )
    return runs


def name_comparison(runs: Sequence[Run]) -> str:
    """Return the file name of a comparison: the experiments, and a hash of the run folders."""
    experiments = dict.fromkeys(Path(run.experiment).stem for run in runs)
    paths = "\n".join(sorted(str(run.path.resolve()) for run in runs))
    digest = hashlib.sha256(os.fsencode(paths)).hexdigest()[:8]
    return make_file_name("-".join(["comparison", *experiments, digest])) + ".html"


def _skip_damaged_results(run: Run) -> None:
    """Replace a damaged ``summary.json`` or ``scores.json`` by an empty one, with a warning."""
    for part in ("summary", "recorded_directions"):
        try:
            getattr(run, part)
        except UserError as error:
            warnings.warn(f"Writing the page without a damaged file: {error}", stacklevel=4)
            setattr(run, part, {})


def write_or_warn(folders: Sequence[Path]) -> None:
    """Write a page and log its path. An error is only a warning, so that training does not fail."""
    try:
        logger.info(f"report: {write(folders)}")
    except Exception as error:
        warnings.warn(f"The report was not written: {error}", stacklevel=2)


def render_template(template: str, **values: Any) -> str:
    """Render a template of ``assets`` with every value escaped."""
    return _load_templates().get_template(template).render(**values)


def render(template: str, **values: Any) -> str:
    """Render a whole page with its style and its script."""
    style, script = (ASSETS / "page.css").read_text("utf-8"), _join_scripts()
    allowed = (
        "default-src 'none'; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    )
    allowed += f"style-src {_hash(style)}; script-src {_hash(script)}"
    return render_template(template, style=style, script=script, allowed=allowed, **values)


@cache
def _join_scripts() -> str:
    """Join the scripts of a page. A worker, which has no document, runs only the engine."""
    names = ("engine", "page", "live", "points", "index", "reload")
    engine, *others = ((ASSETS / f"{name}.js").read_text("utf-8") for name in names)
    in_document = "\n".join(others)
    return f'{engine}\nif (typeof document !== "undefined") {{\n{in_document}\n}}\n'


@cache
def _load_templates() -> Environment:
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


def collect_values(
    run: Run,
    networks: EMANetworks | None = None,
    training: Training | None = None,
    reals: bool = True,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect the values of the template of one run.

    Images are reduced to fit into the page.

    Args:
        run: The run.
        networks: Its networks; by default those of its best checkpoint.
        training: The state of its training, for a page that reloads itself.
        reals: Whether real images are shown: the contact sheet, inputs and targets in grids,
            nearest neighbors, and held-out images for the networks.
        earlier: The description of the networks in an earlier page, for ``live.describe_run``.
    """
    from gan_lab.report import live

    with ExitStack() as stack:
        grids = run.grids
        if not reals:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            grids = pictures.write_generated(grids, folder, live.draws_only_generated(run))
        return _collect_values(run, grids, networks, training, reals, earlier)


def _collect_values(
    run: Run,
    grids: Sequence[tuple[int, Path]],
    networks: EMANetworks | None,
    training: Training | None,
    reals: bool,
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    # these need torch, and the index of runs does without
    from gan_lab.degradations import Degradation
    from gan_lab.report import live, point_player

    shown = ("reals", "neighbours") if reals else ()
    extras = {name: run.path / f"{name}.png" for name in shown}
    pages = {}
    for name, path in extras.items():
        # A missing or damaged image is skipped.
        with suppress(UserError):
            pages[name], _ = pictures.compress_image(path, pictures.MAX_BYTES // 5)
    left = pictures.MAX_BYTES - sum(map(len, pages.values()))
    frames, note = pictures.compress_images([path for _, path in grids], left)
    seen = [grids[i][0] for i in frames]
    charts = curves.build_charts(run)
    model, why_not = live.describe_run(run, loaded=networks, earlier=earlier)
    # published pages have the published weights alone
    if model and networks is None and training is None:
        live.add_other_weights(run, model, earlier)
    player = point_player.describe_player(run, seen, networks, with_generator=training is None)
    thinned = any(
        line["step"] > 1 for _, group in charts for chart in group for line in chart["series"]
    )
    program = name_program(run.started_by_make)
    return {
        "title": run.name,
        "run": run,
        "verdict": summarize_run(run),
        "frames": list(frames.values()),
        "seen": seen,
        "titles": title_columns(run, grids[-1][1]) if grids and reals else [],
        "inputs": Degradation.from_values(run.values).describe_input(),
        "note": note,
        "player": player,
        "pages": {name: pictures.encode_data_uri(data) for name, data in pages.items()},
        "models": [model] if model else [],
        "examples": live.crop_examples(run, model) if model and reals else [],
        "truths": live.crop_ground_truth(run, model) if model and reals else [],
        "why_not": why_not,
        "sample": shlex.join([program, "sample", run.shown_path]),
        "export": shlex.join([program, "export", run.shown_path]),
        "charts": charts,
        "explanations": explain_all([run]),
        "thinned": thinned,
        "cost": _describe_cost(run),
        "commands": command_lines(run),
        "training": training,
        "data": {
            "reload": _describe_reload(training),
            "charts": [chart for _, group in charts for chart in group],
            "seen": seen,
            "models": [model] if model else [],
            "player": player,
            # The last frame is in the HTML.
            "frames": list(frames.values())[:-1],
        },
    }


def title_columns(run: Run, grid: Path) -> list[str]:
    """Title the columns of a sample grid; empty if its family or the grid does not name them."""
    family = find_family_class(str(run.values.get("family")))
    names = family.set_names if family else ()
    columns = None
    # a damaged grid is skipped
    with suppress(OSError, SyntaxError, ValueError):
        columns = (read_record(grid) or {}).get("columns")
    if not names or not isinstance(columns, int) or not 0 < columns <= MAX_TITLED_COLUMNS:
        return []
    return [names[i % len(names)] for i in range(columns)]


def _describe_reload(training: Training | None) -> dict[str, Any] | None:
    """Describe for the script when the page was written and when to reload it."""
    if training is None:
        return None
    return {"written": round(time.time() * 1000), "after": round(training.next_s * 1000)}


def explain_all(runs: Sequence[Run]) -> list[tuple[str, Explanation]]:
    """Explain each score and each training curve of runs that has an explanation."""
    from gan_lab.metrics.explanations import explain, list_included

    explained: dict[str, Explanation] = {}
    for run in runs:
        included = list_included(run.values)
        for name in (*run.score_names, *run.history):
            if found := explain(name, included):
                explained.setdefault(name, found)
    return [*explained.items()]


def _describe_cost(run: Run) -> list[tuple[str, str]]:
    missing = "not recorded"
    memory, hours = run.summary.get("peak_memory_mb"), run.hours
    duration = f"{hours:.2f} hours" if hours >= 1 else f"{hours * 60:.1f} min"
    return [
        ("training images seen", f"{run.images:,} of {run.budget_images:,}"),
        ("speed", missing if run.speed is None else f"{run.speed:,.4g} images/s (median)"),
        ("training time", duration if hours else missing),
        ("peak memory", missing if memory is None else f"{memory:,} MB"),
    ]
