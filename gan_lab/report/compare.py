"""Runs side by side: one row for each experiment over its seeds, one column for each score and way of measuring it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from gan_lab.config.loading import experiments, load
from gan_lab.config.schema import Config, leaves
from gan_lab.report.statistics import SEEDS, is_best, welch
from gan_lab.runs.folder import RunFolder, is_resumable, to_dict
from gan_lab.runs.results import WEIGHTS, read_summary
from gan_lab.utils.errors import UserError
from gan_lab.utils.numbers import mean_and_spread, rounded

# Keys of a protocol in which values of one column may differ: the checkpoint, the draw of the fakes, the libraries, and
# the last digits of what real images have.
FREE = ("weights", "seed", "versions", "floor", "floor_classes")
Entry = dict[str, Any]  # of summary.json: value, higher_is_better, protocol
Rows = Sequence[tuple[str, Sequence[Path]]]


@dataclass(frozen=True)
class Column:
    """A score measured in one way. The note says how it differs from the same score's other columns, if there are."""

    score: str
    protocol: dict[str, Any]  # without the keys of FREE
    title: str  # the score, numbered where it was measured in several ways: fd_digits [2]
    higher_is_better: bool | None  # None: neither, a yardstick or a warning
    note: str = ""


@dataclass
class Cell:
    """Mean and sample standard deviation of a score over n seeds (none of one). As text: '1.76 ± 0.12'."""

    mean: float
    sd: float | None
    n: int
    best: bool = False  # of its column, told apart from every other
    values: tuple[float, ...] = field(default=(), compare=False)  # of the seeds
    floor: float | None = field(default=None, compare=False)  # what real images have, where it is known
    floor_classes: str = field(default="", compare=False)  # how these were drawn

    def __str__(self) -> str:
        return mean_and_spread(self.mean, self.sd)

    def among(self, runs: int, best: str) -> str:
        """As text in a row of so many runs: how the best is written, and the number of seeds where some have no value."""
        return (best.format(self) if self.best else str(self)) + (f" (n={self.n})" if self.n < runs else "")


@dataclass
class Row:
    """The runs of one experiment and config; a cell for each column, None where it was not measured so."""

    name: str
    runs: list[Path]
    cells: list[Cell | None]


@dataclass
class Comparison:
    """Scores that may stand side by side, with notes on how to read them."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def compare(folders: Sequence[Path], weights: str = "best") -> Comparison:
    """Finished runs grouped over their seeds; ``weights``: whose scores, those of ``WEIGHTS``.

    Runs that were not scored stand in the notes. Raises UserError for a folder that is not a run, for one seed twice,
    and if the runs of a group were not measured alike.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights}: there are {', '.join(WEIGHTS)}")
    scored, notes = {}, []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        config, state = RunFolder(folder).config(), read_summary(folder)
        if not state.get("scores", {}).get(weights):
            notes.append(f"{folder} has no scores: 'gan-lab evaluate {folder} --weights {weights}' once it is trained")
            continue
        scored[folder] = config
        if state.get("iteration", 0) < config.iterations:
            notes.append(f"{folder} trains on: its scores are of {state.get('images', 0):,} images")
    comparison = side_by_side(_group(scored), weights)
    comparison.notes[:0] = notes
    return comparison


def _group(configs: dict[Path, Config]) -> list[tuple[str, list[Path]]]:
    """Runs of one experiment and config, but for the seed; each group by the words that set it apart from the others."""
    groups: dict[str, dict[int, Path]] = {}
    settings: dict[str, dict[str, str]] = {}
    for folder, config in configs.items():
        words = _words(config)
        words["EXP"] = read_summary(folder).get("experiment", folder.resolve().parent.name)
        group = json.dumps(words, sort_keys=True)
        settings[group], seeds = words, groups.setdefault(group, {})
        if config.run.seed in seeds:
            raise UserError(
                f"{seeds[config.run.seed]} and {folder} are one experiment with one seed: compare one of them, "
                "since the spread is over seeds"
            )
        seeds[config.run.seed] = folder
    return [(_name(settings[group], list(settings.values())), list(seeds.values())) for group, seeds in groups.items()]


def _words(config: Config) -> dict[str, str]:
    """All that makes a run another one, as it would be typed; the budget too, which a run may change as it goes on."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in leaves(to_dict(config))
        if key == "run.images" or (key != "run.seed" and not is_resumable(key))
    }


def _name(labels: dict[str, str], every: Sequence[dict[str, str]]) -> str:
    """The EXP, and in which words it differs from others of this EXP and from what the EXP says by itself."""
    known = labels["EXP"] in experiments()
    usual = _words(load(labels["EXP"]).config) if known else {}
    same = [other for other in every if other["EXP"] == labels["EXP"]]
    own = [key for key, value in sorted(labels.items()) if value != usual.get(key)
           and any(other.get(key) != value for other in same)]  # fmt: skip
    if any(other["run.images"] != labels["run.images"] for other in every) and "run.images" not in own:
        own.append("run.images")  # budgets are compared beside any experiment
    return " ".join([labels["EXP"], *(f"{key}={labels[key]}" for key in own)])


def side_by_side(rows: Rows, weights: str = "best") -> Comparison:
    """Named groups of runs, compared. Raises UserError if the runs of a group were not measured alike."""
    entries = [_of_group(folders, weights) for _, folders in rows]
    ways: dict[str, list[dict[str, Any]]] = {}
    higher: dict[str, bool | None] = {}
    for scores in entries:
        for score, group in scores.items():
            higher[score] = group[0].get("higher_is_better")
            if (way := _way(group[0])) not in ways.setdefault(score, []):
                ways[score].append(way)
    columns = [column for score, protocols in ways.items() for column in _columns(score, protocols, higher[score])]
    comparison = Comparison(columns, [
        Row(name, list(folders), [_cell(scores.get(column.score, []), column) for column in columns])
        for (name, folders), scores in zip(rows, entries, strict=True)
    ])  # fmt: skip
    every = [entry for scores in entries for group in scores.values() for entry in group]
    if differing := _versions(every):
        comparison.notes.append(f"measured by different versions: {differing}")
    undecided = []
    for i, column in enumerate(columns):
        if column.higher_is_better is not None:
            cells = [(row.name, cell) for row in comparison.rows if (cell := row.cells[i]) and math.isfinite(cell.mean)]
            comparison.notes += [note for note in (_mark(cells, column), _floor_note(cells, column)) if note]
            if len(cells) > 1 and min(cell.n for _, cell in cells) < SEEDS:
                undecided.append(column.title)
    if undecided:
        comparison.notes.append(
            f"no best is marked of {', '.join(undecided)}: that takes {SEEDS} seeds of each row; run.seed=1 trains another"
        )
    return comparison


def _of_group(folders: Sequence[Path], weights: str) -> dict[str, list[Entry]]:
    """Collect the entries of each score from the runs that have it."""
    by_score: dict[str, dict[Path, Entry]] = {}
    for folder in folders:
        for score, entry in read_summary(folder).get("scores", {}).get(weights, {}).items():
            by_score.setdefault(score, {})[folder] = entry
    for score, entries in by_score.items():
        (first, one), *others = entries.items()
        for folder, other in others:
            if apart := _apart([_way(one), _way(other)]):
                difference = " and ".join(_describe(way, apart[:1]) for way in (_way(one), _way(other)))
                raise UserError(
                    f"{score} of {first} and {folder} was not measured alike ({difference}), so it has no mean: "
                    "gan-lab evaluate measures a run anew"
                )
    return {score: list(entries.values()) for score, entries in by_score.items()}


def _way(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry["protocol"].items() if key not in FREE}


def _apart(ways: Sequence[dict[str, Any]]) -> list[str]:
    """The keys in which protocols differ, in the order of the protocols."""
    keys = dict.fromkeys(key for way in ways for key in way)
    return [key for key in keys if any(key not in way or way[key] != ways[0].get(key) for way in ways)]


def _describe(way: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={way.get(key, 'unknown')}" for key in keys)


def _columns(score: str, ways: Sequence[dict[str, Any]], higher: bool | None) -> list[Column]:
    if len(ways) == 1:
        return [Column(score, ways[0], score, higher)]
    return [Column(score, way, f"{score} [{i}]", higher, _describe(way, _apart(ways))) for i, way in enumerate(ways, 1)]


def _cell(entries: Sequence[Entry], column: Column) -> Cell | None:
    if not entries or _way(entries[0]) != column.protocol:
        return None
    values = [float(entry["value"]) for entry in entries]
    finite = all(math.isfinite(value) for value in values)
    sd = None if len(values) == 1 else stdev(values) if finite else math.nan
    floor = [entries[0]["protocol"].get(key) for key in ("floor", "floor_classes")]
    return Cell(mean(values) if finite else math.nan, sd, len(values), False, tuple(values), floor[0], floor[1] or "")


def _mark(cells: Sequence[tuple[str, Cell]], column: Column) -> str:
    """Mark the best cell if Welch's test tells it from every other; the difference to the next one, in words."""
    if len(cells) < 2:
        return ""
    (_, first), *others = sorted(cells, key=lambda one: -one[1].mean if column.higher_is_better else one[1].mean)
    first.best = is_best(first.values, [cell.values for _, cell in others])
    name, second = others[0]
    if min(first.n, second.n) < SEEDS:
        return ""
    effect = welch(first.values, second.values)
    return f"{column.title}: the best mean minus the next ({name}) is {effect}, p = {effect.p:.2g}"


def _floor_note(cells: Sequence[tuple[str, Cell]], column: Column) -> str:
    """Describe what real images have of a score; of generators that are asked for labels it is another value."""
    floors = sorted({cell.floor for _, cell in cells if cell.floor is not None})
    if not floors:
        return ""
    span = " to ".join(dict.fromkeys(map(rounded, (floors[0], floors[-1]))))
    return f"{column.title} of real images in the place of the fakes: {span}"


def _versions(entries: Sequence[Entry]) -> str:
    by_score: dict[str, dict[str, None]] = {}
    for entry in entries:
        for package, version in entry["protocol"].get("versions", {}).items():
            by_score.setdefault(package, {})[str(version)] = None
    return ", ".join(f"{package} {' and '.join(each)}" for package, each in by_score.items() if len(each) > 1)
