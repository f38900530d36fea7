"""The page of several runs: table of scores, common charts, last grids, differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.config.values import format_value
from gan_lab.report import compare, curves, live, pictures, run_page
from gan_lab.runs.run import Run, find_family_class
from gan_lab.runs.run_folder import defines_results
from gan_lab.utils.errors import UserError

# Number of generators side by side.
MAX_MODELS = 4
# Number of grids over time of each run.
MAX_GRIDS_PER_RUN = 12
# A run with a longer label is named by its run folder instead.
MAX_LABEL_LENGTH = 70


def collect_comparison_values(runs: Sequence[Run]) -> dict[str, Any]:
    """Collect the values of the template of several runs."""
    names = label_runs(runs)
    try:
        compared: compare.Comparison | None = compare.compare(runs)
        refused = ""
    except UserError as error:
        compared, refused = None, str(error)
    shots, smaller = collect_shots(runs, names)
    # the last grids are in the HTML
    frames = [{"seen": shot["seen"], "frames": shot["frames"][:-1]} for shot in shots]
    moments = sorted({images for shot in shots for images in shot["seen"]})
    charts = curves.build_comparison_charts(runs, names)
    models = describe_models(runs, names)
    return {
        "title": f"{len(runs)} runs compared",
        "runs": list(zip(names, runs, strict=True)),
        "table": compared,
        "refused": refused,
        "charts": [("", charts)] if charts else [],
        "thinned": any(line["step"] > 1 for chart in charts for line in chart["series"]),
        "shots": shots,
        "smaller": smaller,
        "moments": moments,
        "names": names,
        "explanations": run_page.explain_all(runs),
        "models": models,
        "unplayed": list_unplayed(runs, names),
        "differences": find_differences(runs),
        "data": {
            "charts": charts,
            "seen": [],
            "frames": [],
            "models": models,
            "shots": frames,
            "moments": moments,
        },
    }


def collect_shots(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[dict[str, Any]], bool]:
    """Collect the grids of each run over time, within the budget of the page.

    Returns:
        For each run with grids its name, the images seen and the data URI of each grid; and
        whether some grids are compressed.
    """
    with_grids = [(run, name) for run, name in zip(runs, names, strict=True) if run.grids]
    share = pictures.MAX_BYTES // max(1, len(with_grids))
    shots, smaller = [], False
    for run, name in with_grids:
        kept = pictures.select_evenly(range(len(run.grids)), MAX_GRIDS_PER_RUN)
        grids = [run.grids[i] for i in kept]
        # damaged grids are skipped
        frames, note = pictures.compress_images([path for _, path in grids], share)
        if frames:
            smaller = smaller or "WebP" in note
            seen = [grids[i][0] for i in frames]
            shots.append({"name": name, "seen": seen, "frames": list(frames.values())})
    return shots, smaller


def describe_models(runs: Sequence[Run], names: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the latent-to-image generators that fit into the page, up to ``MAX_MODELS``.

    The first runs of each experiment come first, then the others; the page shows them in the order
    of the runs. The list is empty if there is only one generator.
    """
    described: dict[int, dict[str, Any]] = {}
    experiments: Counter[str] = Counter()
    order = []
    for i, run in enumerate(runs):
        order.append((experiments[run.experiment], i))
        experiments[run.experiment] += 1
    for _, i in sorted(order):
        if len(described) < MAX_MODELS:
            left = live.MAX_WEIGHTS - sum(model["weights"] for model in described.values())
            model, _ = live.describe_run(runs[i], left, latents_only=True)
            if model:
                described[i] = {**model, "name": names[i]}
    return [described[i] for i in sorted(described)] if len(described) > 1 else []


def list_unplayed(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """List the names of the runs that only their own page can play: translators and 2-D points."""
    return [
        name
        for run, name in zip(runs, names, strict=True)
        if run.values.get("data.name") == "toy"
        or getattr(find_family_class(str(run.values.get("family"))), "image_to_image", False)
    ]


def find_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """List the keys in which the configs differ, with the value in each run.

    The value is empty if a run does not have the key.
    """
    keys = dict.fromkeys(key for run in runs for key in run.values)
    rows = []
    for key in keys:
        values = [format_value(run.values[key]) if key in run.values else "" for run in runs]
        if len(set(values)) > 1 and defines_results(key):
            rows.append((key, values))
    return rows


def label_runs(runs: Sequence[Run]) -> list[str]:
    """Label each run uniquely by its experiment and its differences from others of it."""
    labels = []
    for run in runs:
        same = [other for other in runs if other.experiment == run.experiment]
        parts = []
        for key, values in find_differences(same):
            value, (usual, count) = values[same.index(run)], Counter(values).most_common(1)[0]
            # A value that most of these runs have is not part of the label.
            if value != usual or 2 * count <= len(same) or key == "run.seed":
                parts.append(f"{key.rpartition('.')[2]}={value}")
        labels.append(" ".join([Path(run.experiment).stem, *parts]))
    labels = [
        label if len(label) <= MAX_LABEL_LENGTH else run.name
        for label, run in zip(labels, runs, strict=True)
    ]
    counts = Counter(labels)
    return [
        label if counts[label] == 1 else f"{label} ({number})"
        for number, label in enumerate(labels, 1)
    ]
