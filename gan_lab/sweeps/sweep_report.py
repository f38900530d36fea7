"""Report a sweep: best configuration as a file to train, parameter importances, and history."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.trial import FrozenTrial, TrialState

from gan_lab.config import loading, plain_yaml
from gan_lab.config.schema import list_leaves
from gan_lab.config.values import format_overrides, format_value
from gan_lab.report.scales import apply_scale
from gan_lab.runs.environment import is_started_by_make
from gan_lab.runs.run_folder import to_dict
from gan_lab.sweeps.parallel_coordinates import draw_axes
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.sweeps.trials import Trials, name_trial
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text
from gan_lab.utils.output import OutputFiles

STATE_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "ended early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
# They locate a run and do not define its results.
# Fewer trials say nothing of the importance of a parameter.
MIN_TRIALS_FOR_IMPORTANCES = 10
# Trials with a grid and a link.
MAX_SHOWN_TRIALS = 6
KEYS_OUTSIDE_CONFIG = ("run.id", "run.root", "run.overwrite")


@dataclass
class Row:
    """A trial of the report, or the last attempt of a retried trial.

    ``scores`` has the score of each evaluation.
    """

    trial_number: int
    state: str
    values: dict[str, Any]
    value: float | None
    scores: dict[int, float]
    note: str = ""


@dataclass
class SweepResult:
    """Results of a sweep so far.

    ``best`` is the best complete trial; ``importances`` sum to 1, or are empty.
    """

    sweep: Sweep
    rows: list[Row]
    best: Row | None
    importances: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> list[tuple[Row, float]]:
        """The complete trials, each with its value."""
        return [
            (row, row.value)
            for row in self.rows
            if row.state == "complete" and row.value is not None
        ]


def collect_results(trials: Trials) -> SweepResult:
    """Read the trials of a sweep."""
    rows = [
        Row(
            trial_number=number,
            state=STATE_NAMES[attempts[-1].state],
            values=trials.decode(attempts[-1].params),
            value=attempts[-1].value,
            scores=attempts[-1].intermediate_values,
            note=_describe_outcome(attempts),
        )
        for number, attempts in sorted(trials.attempts().items())
    ]
    results = SweepResult(trials.sweep, rows, best=None)
    sign = -1 if trials.sweep.maximize else 1
    results.best, _ = min(results.complete, key=lambda entry: sign * entry[1], default=(None, None))
    results.importances = _compute_importances(trials, len(results.complete))
    return results


def _describe_outcome(attempts: Sequence[FrozenTrial]) -> str:
    last = attempts[-1]
    if last.state == TrialState.FAIL:
        return (
            last.user_attrs.get("reason") or last.user_attrs.get("killed") or "its worker was lost"
        )
    return "retried" if len(attempts) > 1 else ""


def _compute_importances(trials: Trials, complete: int) -> dict[str, float]:
    if complete < MIN_TRIALS_FOR_IMPORTANCES:
        return {}
    varied = [p.key for p in trials.sweep.parameters if p.distribution != "constant"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            importances = optuna.importance.get_param_importances(
                trials.study, evaluator=evaluator, params=varied, target=_read_value(trials)
            )
    except (RuntimeError, ValueError):
        # All values are equal, or no parameter varied.
        return {}
    return {key: share for key, share in importances.items() if math.isfinite(share)}


def _read_value(trials: Trials) -> Callable[[FrozenTrial], float]:
    """Return the function that reads a trial's value on the scale of the metric.

    On the scale of a distance itself, the few trials that diverged would explain all variance.
    """
    values = [
        trial.value
        for attempts in trials.attempts().values()
        for trial in attempts
        if trial.state == TrialState.COMPLETE and trial.value is not None
    ]
    scale, _ = apply_scale(trials.sweep.metric, [values])
    return lambda trial: scale.transform(float(trial.value or 0.0))


def write_best_config(results: SweepResult, overrides: Sequence[str], folder: Path) -> Path | None:
    """Write the best configuration as ``<folder>/<sweep>_best.yaml``, an experiment to train."""
    if results.best is None:
        return None
    sweep = results.sweep
    name = sweep.experiment
    source = loading.find_experiment(name)
    loaded = loading.load(
        name, [*sweep.fixed_overrides, *overrides, *format_overrides(results.best.values)]
    )
    values = dict(list_leaves(to_dict(loaded.config)))
    tree = plain_yaml.resolve(loading.read_tree(source))
    merged: dict[str, Any] = {"defaults": tree["defaults"]} if "defaults" in tree else {}
    # The values of the experiment's own file, and those that differ from it: of overrides and of
    # the chosen config groups.
    own = loading.label(source)
    chosen = {
        "command line",
        *(f"{group}/{member}.yaml" for group, member in loaded.groups.items()),
    }
    keys = [
        key
        for key, origin in loaded.origin.items()
        if origin == own
        or (origin in chosen and key not in KEYS_OUTSIDE_CONFIG and not key.startswith("log."))
    ]
    if "data.size" in keys:
        # data.size=64x96 sets both, and data.size alone would make a square.
        keys.append("data.width")
    for key in dict.fromkeys(keys):
        group, _, item = key.rpartition(".")
        (merged.setdefault(group, {}) if group else merged)[item] = values[key]
    score = f"{sweep.metric} {results.best.value:.4g}"
    comment = (
        f"{name}, the best of the sweep {sweep.name}: trial {results.best.trial_number}, {score}"
    )
    path = _name_best_config(sweep, folder)
    _write(path, f"# {comment}\n{plain_yaml.write(merged)}")
    # Fails here if the written file cannot be trained.
    loading.load(str(path))
    return path


def report(trials: Trials, folder: Path, overrides: Sequence[str]) -> Path:
    """Print a sweep's report, write page and best configuration, and return the page's path.

    Raises:
        UserError: The user has edited one of the two files.
    """
    from rich.console import Console

    results = collect_results(trials)
    overrides = [*trials.overrides(), *overrides]
    console = Console(markup=False)
    console.print(_make_table(results))
    for key, share in results.importances.items():
        console.print(f"Importance of {key}: {share:.2f}", highlight=False)
    page = folder / "report.html"
    # Both first: the page shows the content of the other file.
    OutputFiles(default_path=True).check(page, _name_best_config(results.sweep, folder))
    path = write_best_config(results, overrides, folder)
    _write(page, render(results, path, folder, overrides))
    if path:
        console.print(
            f"Best configuration: {path}. Train it: {_format_command(path)}",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"Report: {page}", soft_wrap=True, highlight=False)
    return page


def _name_best_config(sweep: Sweep, folder: Path) -> Path:
    """Return the path of the best configuration."""
    return folder / f"{sweep.name}_best.yaml"


def _write(path: Path, text: str) -> None:
    with OutputFiles(default_path=True).write(path) as unfinished:
        write_text(unfinished, text, errors="replace")


def _make_table(results: SweepResult) -> Any:
    from rich.table import Table

    counts = {
        state: sum(row.state == state for row in results.rows) for state in STATE_NAMES.values()
    }
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    keys = [parameter.key for parameter in results.sweep.parameters]
    title = f"{results.sweep.name}: {results.sweep.question} ({counted})"
    table = Table("trial", *keys, results.sweep.metric, "state", title=title, title_justify="left")
    sign = -1 if results.sweep.maximize else 1
    for row in sorted(
        results.rows, key=lambda row: math.inf if row.value is None else sign * row.value
    ):
        value = "" if row.value is None else format_rounded(row.value)
        mark = " *" if row is results.best else ""
        state = f"{row.state}: {row.note}" if row.note else row.state
        values = [format_rounded(row.values.get(key)) for key in keys]
        table.add_row(str(row.trial_number), *values, value + mark, state)
    return table


def format_rounded(value: Any) -> str:
    """Format a value as in YAML, but a float with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else format_value(value)


def _format_command(experiment: Path) -> str:
    """Format the command that trains an experiment, in the form in which this one was started."""
    return f"make train EXP={experiment}" if is_started_by_make() else f"gan-lab train {experiment}"


def render(results: SweepResult, best: Path | None, folder: Path, overrides: Sequence[str]) -> str:
    """Render the page: one self-contained file with every value escaped."""
    from gan_lab.metrics.explanations import explain, list_included
    from gan_lab.report import curves, run_page

    sweep = results.sweep
    config = loading.load(sweep.experiment, [*sweep.fixed_overrides, *overrides]).config
    run = config.run
    series = []
    for row in results.rows:
        points = [
            (float(min(evaluation * run.evaluate_every_images, run.images)), value)
            for evaluation, value in sorted(row.scores.items())
        ]
        if points:
            series.append(curves.build_series(f"trial {row.trial_number}", points))
    found = explain(sweep.metric, list_included({"metrics.include": config.metrics.include}))
    charts = [{"title": f"{sweep.metric} of each trial", "series": series}] if series else []
    return run_page.render(
        "sweep.html",
        title=f"Sweep {sweep.name}",
        results=results,
        charts=[("", charts)] if charts else [],
        thinned=False,
        data={"charts": charts},
        keys=[parameter.key for parameter in sweep.parameters],
        shown=format_rounded,
        best=best.read_text(encoding="utf-8") if best else "",
        command=_format_command(best) if best else "",
        history=draw_history(results),
        parallel=draw_parallel(results),
        min_trials=MIN_TRIALS_FOR_IMPORTANCES,
        shots=collect_shots(results, folder),
        links=find_pages(results, folder),
        explanations=[(sweep.metric, found)] if found else [],
        folder=str(folder),
    )


def rank_trials(results: SweepResult) -> list[tuple[Row, float]]:
    """Return the complete trials with their values, the best first."""
    sign = -1 if results.sweep.maximize else 1
    return sorted(results.complete, key=lambda entry: sign * entry[1])


def find_pages(results: SweepResult, folder: Path) -> dict[int, str]:
    """Find the pages of the trials' runs: links from the page of the sweep, by trial number."""
    stem = Path(results.sweep.experiment).stem
    links = {
        row.trial_number: f"runs/{stem}/{name_trial(row.trial_number)}/report.html"
        for row in results.rows
    }
    return {number: quote(link) for number, link in links.items() if (folder / link).is_file()}


def collect_shots(results: SweepResult, folder: Path) -> list[dict[str, Any]]:
    """Collect the last grids of the best complete trials, within the budget of a page."""
    from gan_lab.report import pictures

    shots = []
    for row, value in rank_trials(results)[:MAX_SHOWN_TRIALS]:
        run = folder / "runs" / Path(results.sweep.experiment).stem / name_trial(row.trial_number)
        grids = sorted((run / "samples").glob("[0-9]*.png"))
        # a damaged grid is skipped
        with suppress(UserError):
            if grids:
                data, _ = pictures.compress_image(grids[-1], pictures.MAX_BYTES // MAX_SHOWN_TRIALS)
                uri = pictures.encode_data_uri(data)
                shots.append({"number": row.trial_number, "value": value, "uri": uri})
    return shots


def draw_parallel(results: SweepResult) -> dict[str, Any]:
    """Draw the complete trials in parallel coordinates, with the best one last, on top."""
    ranked = rank_trials(results)[::-1]
    metric = results.sweep.metric
    columns: dict[str, list[Any]] = {
        parameter.key: [row.values.get(parameter.key) for row, _ in ranked]
        for parameter in results.sweep.parameters
    }
    columns[metric] = [value for _, value in ranked]
    drawn = draw_axes(columns, metric, results.sweep.maximize, format_rounded)
    if drawn:
        drawn["lines"] = [
            (line, row.trial_number, value)
            for line, (row, value) in zip(drawn["lines"], ranked, strict=True)
        ]
    return drawn


def draw_history(results: SweepResult) -> dict[str, Any]:
    """Draw the values of complete trials in order and the best so far, 640 x 200 pixels."""
    complete = results.complete
    if not complete:
        return {}
    values = [value for _, value in complete]
    low, high = min(values), max(values)
    last = max(1, complete[-1][0].trial_number)

    def place(trial_number: int, value: float) -> tuple[float, float]:
        x = 50 + 580 * trial_number / last
        y = 180 - 165 * (value - low) / ((high - low) or 1)
        return round(x, 1), round(y, 1)

    points = [(*place(row.trial_number, value), row.trial_number, value) for row, value in complete]
    best_so_far = list(itertools.accumulate(values, max if results.sweep.maximize else min))
    corners = [place(complete[0][0].trial_number, best_so_far[0])]
    for (row, _), (before, now) in zip(complete[1:], itertools.pairwise(best_so_far), strict=True):
        corners += [place(row.trial_number, before), place(row.trial_number, now)]
    line = "M" + "L".join(f"{x} {y}" for x, y in corners)
    return {"points": points, "line": line, "low": low, "high": high, "last": last}
