"""Runs side by side: a row per experiment over its seeds, a column per score and protocol."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from gan_lab.config.loading import experiments, load
from gan_lab.config.schema import Config, list_leaves
from gan_lab.report.scales import apply_scale
from gan_lab.report.statistics import MIN_SEEDS, is_best, welch
from gan_lab.runs.results import WEIGHTS, Score
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import defines_results, to_dict
from gan_lab.utils.errors import UserError
from gan_lab.utils.numbers import format_rounded, mean_and_spread
from gan_lab.utils.score_names import is_trivial_score

# Keys of a protocol in which the values of one column may differ: the checkpoint, the seed of the
# fakes, the versions of libraries, the real-vs-real score, how the run was trained, and the device.
FREE_KEYS = (
    "weights",
    "seed",
    "versions",
    "floor",
    "floor_classes",
    "floor_of_all",
    "labels",
    "train_images",
    "flip",
    "augment",
    "device",
    "precision",
)


@dataclass(frozen=True)
class Column:
    """A score with one protocol.

    Attributes:
        score: Name of the score.
        protocol: Its protocol without ``FREE_KEYS``.
        title: The score, numbered if there are several protocols: "fd_digits [2]".
        higher_is_better: Its direction; None: it has none, like a baseline.
        note: Where the protocol differs from those of the same score's other columns.
    """

    score: str
    protocol: dict[str, Any]
    title: str
    higher_is_better: bool | None
    note: str = ""


@dataclass
class Cell:
    """Mean and sample standard deviation of a score over seeds, formatted as "1.76 ± 0.12".

    Attributes:
        mean: The mean.
        sd: The sample standard deviation; None for one seed.
        n: Number of seeds.
        best: Whether it is significantly better than every other cell of its column.
        values: The value of each seed.
        reference: The real-vs-real score; None: not known.
        reference_classes: How the classes of the real-vs-real score were sampled.
    """

    mean: float
    sd: float | None
    n: int
    best: bool = False
    values: tuple[float, ...] = field(default=(), compare=False)
    reference: float | None = field(default=None, compare=False)
    reference_classes: str = field(default="", compare=False)

    def __str__(self) -> str:
        return mean_and_spread(self.mean, self.sd)

    def format_in_row(self, runs: int, best: str) -> str:
        """Format the cell for a row of ``runs`` runs, and add n if some of them have no value.

        Args:
            runs: Number of runs of the row.
            best: Format of the best cell, such as "**{}**".
        """
        return (best.format(self) if self.best else str(self)) + (
            f" (n={self.n})" if self.n < runs else ""
        )


@dataclass
class Row:
    """The runs of one experiment and config, with a cell for each column.

    A cell is None if the runs have no score with the column's protocol.
    """

    name: str
    runs: list[Run]
    cells: list[Cell | None]


@dataclass
class Comparison:
    """Scores that are comparable, with notes on how to read them."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def compare(folders: Sequence[Path | Run], weights: str = "best") -> Comparison:
    """Compare finished runs, grouped over their seeds, by the scores of one of ``WEIGHTS``.

    Runs without scores are listed in the notes.

    Raises:
        UserError: A folder is not a run, two runs of a group have the same seed, or the runs of a
            group have different protocols.
    """
    if weights not in WEIGHTS:
        raise UserError(f"Unknown weights: {weights}. Choose one of {', '.join(WEIGHTS)}.")
    opened = [folder if isinstance(folder, Run) else Run(folder) for folder in folders]
    scored, notes = [], []
    for run in {run.path.resolve(): run for run in opened}.values():
        if not run.scores_of(weights):
            command = f"gan-lab evaluate {run.path} --weights {weights}"
            notes.append(f"{run.path} has no scores. After training, run '{command}'.")
            continue
        scored.append(run)
        if run.summary.get("iteration", 0) < run.shared_config.iterations:
            notes.append(
                f"{run.path} is unfinished: its scores are those after "
                f"{run.summary.get('images', 0):,} images"
            )
    comparison = side_by_side(_group(scored), weights)
    comparison.notes[:0] = notes
    return comparison


def _group(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Group the runs of one experiment and config over their seeds.

    Returns:
        For each group its name, which contains its differences from the others, and its runs.
    """
    groups: dict[str, dict[int, Run]] = {}
    values_of_group: dict[str, dict[str, str]] = {}
    for run, values in zip(runs, _collect_values_of_runs(runs), strict=True):
        group = json.dumps(values, sort_keys=True)
        values_of_group[group] = values
        seeds = groups.setdefault(group, {})
        seed = run.shared_config.run.seed
        if seed in seeds:
            raise UserError(
                f"{seeds[seed].path} and {run.path} are the same experiment with the same seed. "
                "Compare only one of them: the standard deviation is over seeds."
            )
        seeds[seed] = run
    others = list(values_of_group.values())
    return [
        (_name_group(values_of_group[group], others), list(seeds.values()))
        for group, seeds in groups.items()
    ]


def _collect_values_of_runs(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Collect the values that define the results of each run, and its experiment as ``EXP``.

    The keys under ``model`` are those of the run's file if runs of one experiment have the same
    ones. Otherwise they are typed, which needs the family and torch: two texts may be one number,
    a key may be missing in runs of earlier versions, and groups are named by their differences from
    the defaults.
    """
    recorded = [
        _collect_values(run.shared_config)
        | _format_values({key: run.values[key] for key in run.values if key.startswith("model.")})
        for run in runs
    ]
    experiments = [
        {"EXP": run.summary.get("experiment", run.path.resolve().parent.name)} for run in runs
    ]
    with_experiments = [values | each for values, each in zip(recorded, experiments, strict=True)]
    variants = {json.dumps(values, sort_keys=True) for values in with_experiments}
    if len(variants) == len({values["EXP"] for values in with_experiments}):
        return with_experiments
    return [_collect_values(run.config) | each for run, each in zip(runs, experiments, strict=True)]


def _collect_values(config: Config) -> dict[str, str]:
    """Collect the values that define a run's results, as typed on the command line."""
    return _format_values(dict(list_leaves(to_dict(config))))


def _format_values(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
        if key not in ("run.seed", "model") and defines_results(key)
    }


def _name_group(values: dict[str, str], all_values: Sequence[dict[str, str]]) -> str:
    """Name a group: its EXP, and values that differ from the file and from others of this EXP."""
    same = [other for other in all_values if other["EXP"] == values["EXP"]]
    keys = [
        key
        for key, value in sorted(values.items())
        if any(other.get(key) != value for other in same)
    ]
    # only for keys that differ, because the defaults need the family and torch
    if keys and values["EXP"] in experiments():
        defaults = _collect_values(load(values["EXP"]).config)
        keys = [key for key in keys if values[key] != defaults.get(key)]
    budgets = {other["run.images"] for other in all_values}
    # Name the budget if it differs between any two groups, also of different experiments.
    if len(budgets) > 1 and "run.images" not in keys:
        keys.append("run.images")
    return " ".join([values["EXP"], *(f"{key}={values[key]}" for key in keys)])


def side_by_side(rows: Sequence[tuple[str, Sequence[Run]]], weights: str = "best") -> Comparison:
    """Compare named groups of runs.

    Raises:
        UserError: The runs of a group have different protocols.
    """
    scores_of_row = [_collect_scores(runs, weights) for _, runs in rows]
    protocols: dict[str, list[dict[str, Any]]] = {}
    higher: dict[str, bool | None] = {}
    for scores in scores_of_row:
        for name, group in scores.items():
            higher[name] = group[0].higher_is_better
            protocol = _strip_protocol(group[0])
            if protocol not in protocols.setdefault(name, []):
                protocols[name].append(protocol)
    columns = [
        column
        for name, score_protocols in protocols.items()
        for column in _build_columns(name, score_protocols, higher[name])
    ]
    comparison = Comparison(columns, [])
    for (name, runs), scores in zip(rows, scores_of_row, strict=True):
        row = [_build_cell(scores.get(column.score, []), column) for column in columns]
        comparison.rows.append(Row(name, list(runs), row))
    differing = _list_differing_versions(
        [score for scores in scores_of_row for group in scores.values() for score in group]
    )
    if differing:
        comparison.notes.append(f"measured with different versions: {differing}")
    undecided = []
    for i, column in enumerate(columns):
        if column.higher_is_better is None:
            continue
        cells = [(row, cell) for row in comparison.rows if (cell := row.cells[i])]
        incomplete = [
            row.name
            for row, cell in cells
            if cell.n < len(row.runs) or not math.isfinite(cell.mean)
        ]
        if incomplete:
            comparison.notes.append(
                f"no best value is marked for {column.title}: a seed has no finite value in "
                f"{', '.join(incomplete)}"
            )
        else:
            comparison.notes.append(_mark_best(cells, column))
        comparison.notes.append(_describe_real_vs_real(cells, column))
        if len(cells) > 1 and min(cell.n for _, cell in cells) < MIN_SEEDS:
            undecided.append(column.title)
    comparison.notes = [note for note in comparison.notes if note]
    if undecided:
        fewest = min(comparison.rows, key=lambda row: len(row.runs))
        used = {run.shared_config.run.seed for run in fewest.runs}
        unused = next(seed for seed in itertools.count() if seed not in used)
        comparison.notes.append(
            f"no best value is marked for {', '.join(undecided)}: the test needs {MIN_SEEDS} seeds "
            f"per row. Train another seed with run.seed={unused}"
        )
    return comparison


def _collect_scores(runs: Sequence[Run], weights: str) -> dict[str, list[Score]]:
    """Collect each score from the runs that have it.

    Raises:
        UserError: The runs measured it with different protocols.
    """
    runs_with_score: dict[str, list[Run]] = {}
    for run in runs:
        for name in run.scores_of(weights):
            if is_trivial_score(name):
                continue
            runs_with_score.setdefault(name, []).append(run)
    collected = {}
    for name, (first, *others) in runs_with_score.items():
        collected[name] = [run.scores_of(weights)[name] for run in (first, *others)]
        protocol, *other_protocols = map(_strip_protocol, collected[name])
        for run, other in zip(others, other_protocols, strict=True):
            keys = _find_differing_keys([protocol, other])[:1]
            if keys:
                difference = f"{_describe(protocol, keys)} and {_describe(other, keys)}"
                raise UserError(
                    f"{name} of {first.path} and {run.path} has different protocols "
                    f"({difference}), so it has no mean. "
                    "Score both again with gan-lab evaluate."
                )
    return collected


def _strip_protocol(score: Score) -> dict[str, Any]:
    return {key: value for key, value in score.protocol.items() if key not in FREE_KEYS}


def _find_differing_keys(protocols: Sequence[dict[str, Any]]) -> list[str]:
    """Find the keys in which protocols differ, in the order of the protocols."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    first = protocols[0]
    return [
        key
        for key in keys
        if any(key not in other or other[key] != first.get(key) for other in protocols)
    ]


def _describe(protocol: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={protocol.get(key, 'unknown')}" for key in keys)


def _build_columns(
    score: str, protocols: Sequence[dict[str, Any]], higher: bool | None
) -> list[Column]:
    if len(protocols) == 1:
        return [Column(score, protocols[0], score, higher)]
    keys = _find_differing_keys(protocols)
    return [
        Column(score, protocol, f"{score} [{i}]", higher, _describe(protocol, keys))
        for i, protocol in enumerate(protocols, 1)
    ]


def _build_cell(scores: Sequence[Score], column: Column) -> Cell | None:
    if not scores or _strip_protocol(scores[0]) != column.protocol:
        return None
    values = tuple(float(score.value) for score in scores)
    finite = all(math.isfinite(value) for value in values)
    sd = None
    if len(values) > 1:
        sd = stdev(values) if finite else math.nan
    protocol = scores[0].protocol
    return Cell(
        mean=mean(values) if finite else math.nan,
        sd=sd,
        n=len(values),
        values=values,
        reference=protocol.get("floor"),
        reference_classes=protocol.get("floor_classes") or "",
    )


def _mark_best(cells: Sequence[tuple[Row, Cell]], column: Column) -> str:
    """Mark the best cell if it is significantly better than every other one.

    Cells are compared on the scale of the score (``scales.py``), so that the best mean is the best
    mean on this scale.

    Returns:
        A description of its difference from the second best; empty with too few seeds.
    """
    if len(cells) < 2:
        return ""
    scale, samples = apply_scale(column.score, [cell.values for _, cell in cells])
    ranked = sorted(
        zip(cells, samples, strict=True),
        key=lambda entry: -mean(entry[1]) if column.higher_is_better else mean(entry[1]),
    )
    ((_, first), best), *others = ranked
    first.best = is_best(best, [values for _, values in others])
    (row, second), values = others[0]
    if min(first.n, second.n) < MIN_SEEDS:
        return ""
    effect = welch(best, values)
    relation = "the best mean minus the next"
    if scale.effect:
        relation = f"the {scale.effect} of the best to the next"
    text = scale.format_effect(effect.difference, effect.low, effect.high)
    return (
        f"{column.title}: {relation} ({row.name}) is {text.removeprefix(scale.effect).lstrip()}, "
        f"p = {effect.p:.2g}"
    )


def _describe_real_vs_real(cells: Sequence[tuple[Row, Cell]], column: Column) -> str:
    """Describe the real-vs-real score of a column, which differs for class-conditional rows."""
    values = sorted({cell.reference for _, cell in cells if cell.reference is not None})
    if not values:
        return ""
    span = " to ".join(dict.fromkeys(map(format_rounded, (values[0], values[-1]))))
    return f"{column.title}, real vs. real: {span}"


def _list_differing_versions(scores: Sequence[Score]) -> str:
    versions: dict[str, dict[str, None]] = {}
    for score in scores:
        for package, version in score.protocol.get("versions", {}).items():
            versions.setdefault(package, {})[str(version)] = None
    return ", ".join(
        f"{package} {' and '.join(found)}" for package, found in versions.items() if len(found) > 1
    )
