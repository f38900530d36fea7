"""Record the runs of ``make benchmark`` and rewrite the tables of digits from them.

Writes docs/results/families.json, and the rows of the tables in README.md and
docs/methods/README.md with the scores of the best checkpoints. Runs that are missing are trained
first. Arguments are overrides, as of ``make benchmark``.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab import benchmark  # noqa: E402
from gan_lab.report.scales import apply_scale  # noqa: E402
from gan_lab.report.statistics import SIGNIFICANCE_LEVEL, is_best, welch  # noqa: E402
from gan_lab.runs.run import Run  # noqa: E402
from gan_lab.utils.files import read_json, write_text  # noqa: E402
from gan_lab.utils.numbers import mean_and_spread  # noqa: E402

TABLE = "families"
RECORD = REPOSITORY / "docs" / "results" / f"{TABLE}.json"
README = REPOSITORY / "README.md"
METHODS = REPOSITORY / "docs" / "methods" / "README.md"
# the distances whose orders are compared
DISTANCES = ("fd_digits", "fd_pixels")
# also recorded, for the page of the semi-supervised GAN
OTHER_SCORES = ("accuracy", "baseline_accuracy")
SIGNIFICANT_DIGITS = 6
# page, beginning of the header, and what finds the row's experiment in its line
TABLES = (
    (README, "| method | paper | command |", r"make train EXP=(\w+)`"),
    (METHODS, "| method | paper | file | EXP | `fd_digits`", r"\.py\) \| `(\w+)` \|"),
)

Rows = Mapping[str, Mapping[str, Any]]


def describe(runs: Sequence[Run], scores: Sequence[str]) -> dict[str, Any]:
    """Return the scores, references, seconds and alerts of the runs of a row, by seed."""
    best = [run.scores for run in runs]
    first = {score: best[0][score] for score in (*scores, *OTHER_SCORES) if score in best[0]}
    return {
        "scores": {name: [round_value(found[name].value) for found in best] for name in first},
        "real_images": {
            name: round_value(score.protocol["floor"])
            for name, score in first.items()
            if "floor" in score.protocol
        },
        "classes": next(iter(first.values())).protocol.get("floor_classes", ""),
        "generator_steps": benchmark.count_generator_steps(runs[0].config),
        "seconds": [round(3600 * run.hours) for run in runs],
        "alerts": [[alert.kind for alert in run.alerts] for run in runs],
    }


def round_value(value: float) -> float:
    """Round a value to the digits of the record."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def format_values(rows: Rows, name: str, score: str) -> str:
    """Format mean and SD over seeds; bold if significantly better than every other row."""
    if score not in rows[name]["scores"]:
        return ""
    values = rows[name]["scores"][score]
    text = mean_and_spread(statistics.mean(values), statistics.stdev(values))
    others = [other for other in rows if other != name and score in rows[other]["scores"]]
    _, (own, *compared) = apply_scale(
        score, [rows[other]["scores"][score] for other in (name, *others)]
    )
    sign = 1 if score.startswith("fd_") else -1
    is_first = all(sign * statistics.mean(own) < sign * statistics.mean(x) for x in compared)
    return f"**{text}**" if is_first and is_best(own, compared) else text


def list_contradictions(rows: Rows) -> list[tuple[str, str]]:
    """List the pairs of rows that the two distances order differently, both significantly.

    Returns:
        Pairs of rows; the first has the lower ``fd_digits``, the second the lower ``fd_pixels``.
    """
    found = []
    for pair in combinations(sort_rows(rows), 2):
        effects = []
        for score in DISTANCES:
            _, (one, other) = apply_scale(score, [rows[name]["scores"][score] for name in pair])
            effects.append(welch(one, other))
        significant = all(effect.p <= SIGNIFICANCE_LEVEL for effect in effects)
        if significant and effects[0].difference * effects[1].difference < 0:
            found.append(pair)
    return found


def sort_rows(rows: Rows) -> list[str]:
    """Sort the rows by the first distance."""
    return sorted(rows, key=lambda name: statistics.mean(rows[name]["scores"][DISTANCES[0]]))


def rewrite_table(page: str, header: str, rows: Rows, pattern: str) -> str:
    """Rewrite the cells of the rows of a Markdown table, and sort these rows.

    Args:
        page: The text of the page.
        header: The beginning of the table's header.
        rows: The recorded rows.
        pattern: A regular expression that finds the name of a row in its line.
    """
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")]
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    order = sort_rows(rows)

    def find_row(line: str) -> str | None:
        match = re.search(pattern, line)
        return match.group(1) if match and match.group(1) in rows else None

    def find_rank(line: str) -> int:
        # the sort is stable: lines of other methods and of real images keep their order at the end
        name = find_row(line)
        return order.index(name) if name else len(order)

    lines[start + 2 : end] = [
        rewrite_row(line, columns, rows, name) if (name := find_row(line)) else line
        for line in sorted(lines[start + 2 : end], key=find_rank)
    ]
    return "\n".join(lines) + "\n"


def rewrite_row(line: str, columns: Sequence[str], rows: Rows, name: str) -> str:
    """Replace the cells of a row whose columns are recorded."""
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    row = rows[name]
    for i, column in enumerate(columns):
        score = column.split(" (")[0].strip("`").replace("label accuracy", "label_accuracy")
        if score in (*DISTANCES, "label_accuracy"):
            cells[i] = format_values(rows, name, score)
        elif score == "generator steps":
            cells[i] = f"{row['generator_steps']:,}"
        elif score == "seconds":
            cells[i] = f"{statistics.mean(row['seconds']):.0f}"
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def write_tables(rows: Rows) -> None:
    """Rewrite the tables of README.md and docs/methods/README.md."""
    for path, header, pattern in TABLES:
        page = path.read_text(encoding="utf-8")
        write_text(path, rewrite_table(page, header, rows, pattern))


def main() -> None:
    """Train what is missing, write the record and the tables, and print contradictions."""
    table = benchmark.load(TABLE)
    trained = benchmark.train(table, sys.argv[1:])
    rows = {name: describe(runs, table.scores) for name, runs in trained}
    command = f"make benchmark TABLE={TABLE}"
    record = {"command": command, "words": table.words, "rows": rows}
    write_text(RECORD, json.dumps(record, indent=1) + "\n")
    write_tables(read_json(RECORD)["rows"])
    for one, other in list_contradictions(rows):
        print(f"{one} is better by {DISTANCES[0]}, {other} by {DISTANCES[1]}")


if __name__ == "__main__":
    main()
