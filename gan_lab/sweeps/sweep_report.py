"""Report a sweep: the best configuration as a file to train, what mattered, and the history."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from gan_lab.config import loading
from gan_lab.config.schema import leaves
from gan_lab.sweeps.sweep_file import Sweep, to_words
from gan_lab.sweeps.trials import Trials, is_retry
from gan_lab.utils.files import write_text

STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "ended early", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
NOT_IN_A_CONFIG = ("run.id", "run.root", "run.overwrite")


@dataclass
class Row:
    """One trial of the report; of a retried trial, its last try."""

    trial_number: int
    state: str
    values: dict[str, Any]
    value: float | None
    scores: dict[int, float]  # of each evaluation
    reason: str = ""


@dataclass
class SweepResult:
    """Results of a sweep so far. ``best`` is the best complete trial; ``importances`` add up to 1, or are empty."""

    sweep: Sweep
    rows: list[Row]
    best: Row | None
    importances: dict[str, float] = field(default_factory=dict)


def collect_results(trials: Trials) -> SweepResult:
    """Read the trials of a sweep."""
    last: dict[int, FrozenTrial] = {}
    for trial in trials.all():
        if "trial_number" in trial.user_attrs:
            last[trial.user_attrs["trial_number"]] = trial
    rows = [_make_row(trial_number, trial) for trial_number, trial in sorted(last.items())]
    complete = [row for row in rows if row.state == "complete" and row.value is not None]
    sign = -1 if trials.sweep.maximize else 1
    best = min(complete, key=lambda row: sign * (row.value or 0.0), default=None)
    return SweepResult(trials.sweep, rows, best, _compute_importances(trials, len(complete)))


def _make_row(trial_number: int, trial: FrozenTrial) -> Row:
    failure = trial.user_attrs.get("reason") or trial.user_attrs.get("killed") or "its worker was lost"
    reason = failure if trial.state == TrialState.FAIL else ""
    if not reason and is_retry(trial):
        reason = "tried again"
    value = trial.values[0] if trial.values else None
    return Row(
        trial_number,
        STATES[trial.state],
        json.loads(trial.user_attrs["values"]),
        value,
        trial.intermediate_values,
        reason,
    )


def _compute_importances(trials: Trials, complete: int) -> dict[str, float]:
    if complete < 2:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            importances = optuna.importance.get_param_importances(trials.study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # all values are equal, or no parameter varied
        return {}
    return {key: share for key, share in importances.items() if math.isfinite(share)}


def best_config(results: SweepResult, words: Sequence[str], folder: Path) -> Path | None:
    """Write the best configuration as ``<folder>/<sweep>_best.yaml``, which ``make train EXP=<path>`` trains."""
    if results.best is None:
        return None
    sweep = results.sweep
    name = sweep.experiment
    base = loading.find_experiment(name)
    merged = OmegaConf.load(base)
    overrides = [*sweep.fixed, *words, *to_words(results.best.values)]
    loaded = loading.load(name, overrides)
    values = dict(leaves(loaded.config))
    origins = {"command line", *(f"{group}/{member}.yaml" for group, member in loaded.groups.items())}
    for key in (key for key, origin in loaded.origin.items() if origin in origins):
        if key not in NOT_IN_A_CONFIG and not key.startswith("log."):
            OmegaConf.update(merged, key, list(values[key]) if isinstance(values[key], tuple) else values[key])
    score = f"{sweep.metric} {results.best.value:.4g}"
    about = f"{name}, the best of the sweep {sweep.name}: trial {results.best.trial_number}, {score}"
    path = folder / f"{sweep.name}_best.yaml"
    _write(path, f"# {about}\n{OmegaConf.to_yaml(merged)}")
    loading.load(str(path))  # fails here if the written file cannot be trained
    return path


def report(trials: Trials, folder: Path, words: Sequence[str]) -> Path:
    """Print a sweep's report, write its page and its best configuration; return the path of the page."""
    from rich.console import Console

    results, words = collect_results(trials), [*trials.words(), *words]
    path = best_config(results, words, folder)
    page = folder / "report.html"
    _write(page, render(results, path, folder, words))
    console = Console(markup=False)
    console.print(_make_table(results))
    for key, share in results.importances.items():
        console.print(f"importance of {key}: {share:.2f}", highlight=False)
    if path:
        console.print(f"best: {path}; make train EXP={path} trains it", soft_wrap=True, highlight=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
    return page


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, errors="replace", suffix=f".{os.getpid()}")  # several workers may report the sweep at once


def _make_table(results: SweepResult) -> Any:
    from rich.table import Table

    counts = {state: sum(row.state == state for row in results.rows) for state in STATES.values()}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    keys = [parameter.key for parameter in results.sweep.parameters]
    title = f"{results.sweep.name}: {results.sweep.about} ({counted})"
    table = Table("trial", *keys, results.sweep.metric, "state", title=title, title_justify="left")
    sign = -1 if results.sweep.maximize else 1
    for row in sorted(results.rows, key=lambda row: math.inf if row.value is None else sign * row.value):
        mark = " *" if row is results.best else ""
        value = "" if row.value is None else f"{row.value:.4g}{mark}"
        table.add_row(str(row.trial_number), *(shown(row.values.get(key)) for key in keys), value,
                      row.state + (f": {row.reason}" if row.reason else ""))  # fmt: skip
    return table


def shown(value: Any) -> str:
    """Format a value, a float with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def render(results: SweepResult, best: Path | None, folder: Path, words: Sequence[str]) -> str:
    """Render the page: one self-contained file with every value escaped."""
    from gan_lab.report import curves, run_page

    sweep = results.sweep
    run = loading.load(sweep.experiment, [*sweep.fixed, *words]).config.run
    series = []
    for row in results.rows:
        points = [
            (min(step * run.evaluate_every_images, run.images), value) for step, value in sorted(row.scores.items())
        ]
        if points:
            series.append(
                curves.series(f"trial {row.trial_number}", [(float(images), value) for images, value in points])
            )
    charts = [{"title": f"{sweep.metric} of each trial", "series": series}] if series else []
    return run_page.render(
        "sweep.html", title=f"Sweep {sweep.name}", results=results, charts=[("", charts)] if charts else [],
        thinned=False, data={"charts": charts}, keys=[parameter.key for parameter in sweep.parameters], shown=shown,
        best=best.read_text(encoding="utf-8") if best else "", command=f"make train EXP={best}" if best else "",
        history=history(results), folder=str(folder),
    )  # fmt: skip


def history(results: SweepResult) -> dict[str, Any]:
    """Values of the complete trials in order and the best so far, as coordinates in a drawing of 640 x 200."""
    complete = [row for row in results.rows if row.state == "complete" and row.value is not None]
    if not complete:
        return {}
    values = [float(row.value or 0.0) for row in complete]
    low, high, last = min(values), max(values), max(1, complete[-1].trial_number)
    better = max if results.sweep.maximize else min
    places = [
        (
            round(50 + 580 * row.trial_number / last, 1),
            round(180 - 165 * (value - low) / ((high - low) or 1), 1),
            row.trial_number,
            value,
        )
        for row, value in zip(complete, values, strict=True)
    ]
    line, best = [], math.inf if better is min else -math.inf
    for x, _, _, value in places:
        line += [f"{x} {180 - 165 * (best - low) / ((high - low) or 1):.1f}"] if math.isfinite(best) else []
        best = better(best, value)
        line.append(f"{x} {180 - 165 * (best - low) / ((high - low) or 1):.1f}")
    return {"places": places, "line": "M" + "L".join(line), "low": low, "high": high, "last": last}
