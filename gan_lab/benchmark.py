"""A table of methods at equal budget: every row is trained by the command line of its own, and measured alike."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gan_lab.config import extensions, groups, loading
from gan_lab.report.compare import side_by_side
from gan_lab.runs.folder import RunFolder
from gan_lab.utils.errors import first_line

logger = logging.getLogger("gan_lab")


@dataclass
class Table:
    """A table of ``configs/tables/<name>.yaml``."""

    rows: list[str] = field(default_factory=list)  # an experiment each, and the words that are its own
    words: list[str] = field(default_factory=list)  # for all rows
    seeds: int = 1
    scores: list[str] = field(default_factory=list)  # the columns; the first one orders the rows


def load(name: str) -> Table:
    """The table of a name. Raises ValueError for an unknown one, or one that is not as ``Table`` says."""
    folder = loading.config_folder() / "tables"
    if not (folder / f"{name}.yaml").is_file():
        raise ValueError(
            extensions.explain_unknown_name("table", name, [path.stem for path in groups.files_in(folder)])
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Table), OmegaConf.load(folder / f"{name}.yaml"))
    except Exception as error:  # the YAML reader and the schema have no common error type
        raise ValueError(f"{folder / name}.yaml: {first_line(error)}") from None
    loaded: Any = OmegaConf.to_object(merged)
    assert isinstance(loaded, Table)
    if not loaded.rows or not all(row.strip() for row in loaded.rows) or not loaded.scores:
        raise ValueError(f"{folder / name}.yaml: a table needs rows, none of them empty, and scores")
    return loaded


def train(table: Table, words: list[str]) -> list[tuple[str, list[Path]]]:
    """Train what is not trained yet, one run after the other; each row with the folders of its seeds.

    Raises ValueError, before anything is trained, for words that a row does not take or that give two runs one folder;
    and if a training fails.
    """
    commands: list[tuple[str, list[list[str]]]] = []
    for row in table.rows:
        experiment, *own = row.split()
        each = [[experiment, *own, *table.words, *words, f"run.seed={seed}"] for seed in range(table.seeds)]
        commands.append((row, each))
    loaded = {tuple(c): loading.load(c[0], c[1:]) for _, each in commands for c in each}
    if len({RunFolder.of(one).path for one in loaded.values()}) < len(loaded):
        raise ValueError("rows and seeds of a table each need a folder of their own: do without run.id and RUN_ID")
    for number, (command, one) in enumerate(loaded.items(), 1):
        folder = RunFolder.of(one).path
        if RunFolder(folder).finished(one.config) is None:
            logger.info(f"{number} of {len(loaded)}: {' '.join(command)}")
            code = subprocess.run([sys.executable, "-m", "gan_lab", "train", *command], stdout=subprocess.DEVNULL)
            if code.returncode in (130, 143):  # a signal, with a checkpoint: the same command continues
                raise SystemExit(code.returncode)
            if code.returncode:
                raise ValueError(f"'gan-lab train {' '.join(command)}' ended with {code.returncode}")
    return [(row, [RunFolder.of(loaded[tuple(command)]).path for command in each]) for row, each in commands]


def render(table: Table, trained: list[tuple[str, list[Path]]]) -> str:
    """The table in Markdown, best first score on top; mean ± standard deviation over the seeds.

    Raises ValueError if the runs were not measured alike.
    """
    comparison = side_by_side(trained)
    places: dict[str, int] = {}
    for score in table.scores:
        ways = [i for i, column in enumerate(comparison.columns) if column.score == score]
        if len(ways) > 1:
            notes = "; ".join(comparison.columns[i].note for i in ways)
            raise ValueError(f"{score} was not measured alike in all rows: {notes}")
        if ways:
            places[score] = ways[0]
    lines = []
    for row in comparison.rows:
        cells = [row.cells[places[score]] if score in places else None for score in table.scores]
        first = cells[0]
        whole = first is not None and first.n == len(row.runs) and math.isfinite(first.mean)
        lines.append((first.mean if first and whole else math.nan, [f"`{row.name}`", *(str(c or "") for c in cells)]))
    first_column = places.get(table.scores[0])
    sign = -1 if first_column is not None and comparison.columns[first_column].higher_is_better else 1
    lines.sort(key=lambda line: math.inf if math.isnan(line[0]) else sign * line[0])
    head = ["EXP", *table.scores]
    body = [head, ["---"] * len(head), *[cells for _, cells in lines]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in body)
