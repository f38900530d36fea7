"""The page of several runs: their scores in one table, curves over each other, last grids, and what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_lab.config.values import format_value
from gan_lab.report import compare, curves, live, pictures
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import defines_results
from gan_lab.utils.errors import UserError

MAX_MODELS = 4  # generators side by side


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """Collect the values of the template."""
    names = labels(runs)
    try:
        compared: compare.Comparison | None = compare.compare(runs)
        refused = ""
    except UserError as error:
        compared, refused = None, str(error)
    grids = [run.grids[-1][1] if run.grids else None for run in runs]
    present = [path for path in grids if path]
    share = pictures.BUDGET // max(1, len(present))
    within = sum(path.stat().st_size for path in present) <= pictures.BUDGET
    shots = []
    for run, name, path in zip(runs, names, grids, strict=True):
        with suppress(UserError):  # a torn one is left out
            if path is None:
                continue
            data, _ = pictures.picture(path, pictures.BUDGET if within else share)
            shots.append({"name": name, "images": run.grids[-1][0], "uri": pictures.uri(data)})
    charts = curves.build_comparison_charts(runs, names)
    models = describe_models(runs, names)
    return {
        "title": f"{len(runs)} runs compared",
        "runs": list(zip(names, runs, strict=True)),
        "table": compared,
        "refused": refused,
        "charts": [("", charts)] if charts else [],
        "thinned": any(one["step"] > 1 for chart in charts for one in chart["series"]),
        "shots": shots,
        "smaller": not within,
        "names": names,
        "models": models,
        "differences": differences(runs),
        "data": {"charts": charts, "seen": [], "frames": [], "models": models},
    }


def describe_models(runs: Sequence[Run], names: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the latent-to-image generators that the page has room for, of the first seed of each experiment.

    Each has the name of its run. Empty if there is only one.
    """
    models: list[dict[str, Any]] = []
    seen: set[str] = set()
    if len({run.experiment for run in runs}) < 2:
        return []
    for run, name in zip(runs, names, strict=True):
        if len(models) < MAX_MODELS and run.experiment not in seen:
            left = live.MAX_WEIGHTS - sum(model["weights"] for model in models)
            model, _ = live.describe_run(run, left, latents_only=True)
            if model:
                seen.add(run.experiment)
                models.append({**model, "name": name})
    return models if len(models) > 1 else []


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """List the keys in which the configs differ, with the value in each run; empty where a run has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.values)
    rows = []
    for key in keys:
        values = [format_value(run.values[key]) if key in run.values else "" for run in runs]
        if len(set(values)) > 1 and defines_results(key):
            rows.append((key, values))
    return rows


def labels(runs: Sequence[Run]) -> list[str]:
    """Name each run uniquely: its experiment, and the values in which it differs from others of that experiment."""
    compared = []
    for run in runs:
        same = [other for other in runs if other.experiment == run.experiment]
        parts = []
        for key, values in differences(same):
            value, (usual, count) = values[same.index(run)], Counter(values).most_common(1)[0]
            if (
                value != usual or 2 * count <= len(same) or key == "run.seed"
            ):  # not the value that most have
                parts.append(f"{key.rpartition('.')[2]}={value}")
        compared.append(" ".join([Path(run.experiment).stem, *parts]))
    compared = [
        label if len(label) <= 70 else run.name for label, run in zip(compared, runs, strict=True)
    ]
    counts = Counter(compared)
    return [
        label if counts[label] == 1 else f"{label} ({number})"
        for number, label in enumerate(compared, 1)
    ]
