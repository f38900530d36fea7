"""Benchmark tables: methods trained with equal budgets and evaluated with equal protocols."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gan_lab.config import extensions, groups, loading, plain_yaml
from gan_lab.config.schema import Config
from gan_lab.config.values import convert, split_arguments
from gan_lab.report.compare import side_by_side
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.utils import process
from gan_lab.utils.errors import UserError

logger = logging.getLogger("gan_lab")
# Values of the protocol entry ``floor_classes``: the classes of the real-vs-real reference were the
# ones requested from a class-conditional generator, or random.
REFERENCE_CLASSES = ("as asked for", "at random")


class TrainingDivergedError(UserError):
    """A training ended because a weight or a recorded value was NaN or Inf."""


@dataclass
class Table:
    """A table of ``configs/tables/<name>.yaml``.

    Attributes:
        rows: Experiments, each with its overrides.
        words: Overrides of all rows.
        seeds: Number of seeds per row.
        scores: The columns; the first one sorts the rows.
    """

    rows: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    seeds: int = 1
    scores: list[str] = field(default_factory=list)


def load(name: str) -> Table:
    """Load a table.

    Raises:
        UserError: The name is unknown, or the file does not match ``Table``.
    """
    folder = loading.config_folder() / "tables"
    if not (folder / f"{name}.yaml").is_file():
        raise UserError(
            extensions.explain_unknown_name(
                "table", name, [path.stem for path in groups.list_yaml_files(folder)]
            )
        )
    path = folder / f"{name}.yaml"
    try:
        loaded: Table = convert(Table, plain_yaml.read_file(path))
    except ValueError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    if not loaded.rows or not all(row.strip() for row in loaded.rows) or not loaded.scores:
        raise UserError(f"{path}: a table needs nonempty rows and scores")
    for row in loaded.rows:
        split_arguments(row)
    return loaded


def train(table: Table, overrides: list[str]) -> list[tuple[str, list[Run]]]:
    """Train the unfinished runs one after the other; return each row with the runs of its seeds.

    Raises:
        UserError: Overrides are invalid or give two runs the same folder (before any training), or
            a training fails.
    """
    commands: list[tuple[str, list[list[str]]]] = []
    for row in table.rows:
        experiment, *own = split_arguments(row)
        row_commands = [
            [experiment, *own, *table.words, *overrides, f"run.seed={seed}"]
            for seed in range(table.seeds)
        ]
        commands.append((row, row_commands))
    loaded = {
        tuple(c): loading.load(c[0], c[1:]) for _, row_commands in commands for c in row_commands
    }
    for each in loaded.values():
        each.check_comparable()
    if len({RunFolder.of(run).path for run in loaded.values()}) < len(loaded):
        raise UserError(
            "each row and seed of a table needs its own folder. Remove run.id and RUN_ID"
        )
    for number, command in enumerate(loaded, 1):
        train_once(list(command), f"{number} of {len(loaded)}: ")
    return [
        (row, [Run(RunFolder.of(loaded[tuple(command)]).path) for command in row_commands])
        for row, row_commands in commands
    ]


def train_once(command: list[str], label: str = "") -> Path:
    """Train an experiment in a subprocess unless it is finished; return its folder.

    Args:
        command: The experiment and its overrides.
        label: Prefix of the log line.

    Raises:
        TrainingDivergedError: The training diverged.
        UserError: The training fails for another reason.
        SystemExit: A signal stopped the training; the same command resumes it.
    """
    loaded = loading.load(command[0], command[1:])
    folder = RunFolder.of(loaded)
    if folder.finished(loaded.config) is None or not (folder.path / "report.html").is_file():
        logger.info(f"{label}{' '.join(command)}")
        alerts = folder.path / "health.csv"
        before = alerts.stat().st_mtime_ns if alerts.is_file() else None
        code = process.run([sys.executable, "-m", "gan_lab", "train", *command])
        # stopped by SIGINT or SIGTERM, with a checkpoint
        if code in (130, 143):
            raise SystemExit(code)
        if code:
            message = f"'gan-lab train {' '.join(command)}' failed with exit code {code}"
            # the file of an earlier attempt says nothing about this one
            is_new = alerts.is_file() and alerts.stat().st_mtime_ns != before
            latest = Run(folder.path).alerts[-1:] if is_new else []
            if any(alert.ends_training for alert in latest):
                raise TrainingDivergedError(f"{message}: it diverged")
            raise UserError(message)
    return folder.path


def count_generator_steps(config: Config) -> int:
    """Return how often the generator is updated in a training."""
    return config.iterations // int(getattr(config.model, "n_critic", 1))


def _measure_cost(runs: list[Run]) -> list[str]:
    """Return the generator steps and the training seconds, mean over seeds."""
    seconds = [3600 * run.hours for run in runs]
    return [
        f"{count_generator_steps(runs[0].config):,}",
        f"{sum(seconds) / len(seconds):.0f}",
    ]


def render(table: Table, trained: list[tuple[str, list[Run]]]) -> str:
    """Render the table in Markdown: mean ± SD over seeds, sorted by the first score.

    Bold: significantly better than every other row (``report/statistics.py``). The last columns are
    generator steps and training seconds, which depend on the machine; the last rows are the
    real-vs-real references.

    Raises:
        UserError: The runs were scored with different protocols.
    """
    comparison = side_by_side(trained)
    positions: dict[str, int] = {}
    for score in table.scores:
        matches = [i for i, column in enumerate(comparison.columns) if column.score == score]
        if len(matches) > 1:
            notes = "; ".join(comparison.columns[i].note for i in matches)
            raise UserError(f"{score} has different protocols: {notes}")
        if matches:
            positions[score] = matches[0]
    lines = []
    for row in comparison.rows:
        cells = [
            row.cells[positions[score]] if score in positions else None for score in table.scores
        ]
        first = cells[0]
        complete = first is not None and first.n == len(row.runs) and math.isfinite(first.mean)
        texts = [cell.format_in_row(len(row.runs), "**{}**") if cell else "" for cell in cells]
        sort_key = first.mean if first and complete else math.nan
        lines.append((sort_key, [f"`{row.name}`", *texts, *_measure_cost(row.runs)]))
    first_column = positions.get(table.scores[0])
    sign = (
        -1 if first_column is not None and comparison.columns[first_column].higher_is_better else 1
    )
    lines.sort(key=lambda line: math.inf if math.isnan(line[0]) else sign * line[0])
    head = ["EXP", *table.scores, "generator steps", "seconds"]
    body = [head, ["---"] * len(head), *[cells for _, cells in lines]]
    for classes in REFERENCE_CLASSES:
        references = []
        for score in table.scores:
            cells = [row.cells[positions[score]] for row in comparison.rows if score in positions]
            values = [
                f"{cell.reference:.3g}"
                for cell in cells
                if cell and cell.reference is not None and cell.reference_classes == classes
            ]
            references.append(values[0] if values else "")
        if any(references):
            body.append([f"real images, classes {classes}", *references, "", ""])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in body)
