"""Record the sensitivity of the extractors and write the table of docs/metrics.md.

Writes docs/results/sensitivity.json: for each data set and extractor the smallest severity of each
distortion that the kernel distance detects, null if it does not detect the largest one. Arguments
select some data sets; the others keep their values. All of them take about five minutes of one
core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab import data as datasets  # noqa: E402
from gan_lab.config import loading  # noqa: E402
from gan_lab.sensitivity import detection  # noqa: E402
from gan_lab.sensitivity.distortions import DISTORTIONS  # noqa: E402
from gan_lab.sensitivity.sensitivity_page import format_threshold  # noqa: E402
from gan_lab.utils.files import read_json, write_text  # noqa: E402

RECORD = REPOSITORY / "docs" / "results" / "sensitivity.json"
PAGE = REPOSITORY / "docs" / "metrics.md"
MEASURE = "kd"
HEADER = (
    "| data, n | extractor | blur, ‰ of the side | noise, levels | blocks shuffled | shift, % "
    "| less light, % | classes lost | copies, % | repeated, % |"
)
# extractor, then distortion: threshold
Thresholds = dict[str, dict[str, int | None]]


@dataclass(frozen=True)
class Row:
    """A data set of the table, as ``make judge`` takes it."""

    data: str
    n: int
    extractors: tuple[str, ...] = ("lite0_mid", "lite0", "pixels", "random")
    overrides: tuple[str, ...] = ()


DIGITS = Row("mnist", 100, ("digits", *Row.extractors), ("data.source=sample",))
ROWS = (Row("faces32", 40), Row("emoji", 50), DIGITS)


def measure(row: Row) -> Thresholds:
    """Measure the thresholds of the extractors of a row."""
    config = loading.load("gan", [f"data={row.data}", *row.overrides]).config
    served = datasets.load(config.data, config.run.seed)
    report = detection.measure_sensitivity(served, row.n, [*row.extractors], config.metrics)
    return {
        extractor: {
            distortion.name: report.get_result(f"{MEASURE}_{extractor}", distortion.name).threshold
            for distortion in report.distortions
        }
        for extractor in row.extractors
    }


def render_rows(recorded: dict[str, Any]) -> list[str]:
    """Render the rows of the table; cells of distortions that do not apply are empty."""
    rows = []
    for data, entry in recorded.items():
        label = f"{data}, {entry['n']}"
        for extractor, thresholds in entry["thresholds"].items():
            cells = [
                format_threshold(thresholds[each.name]) if each.name in thresholds else ""
                for each in DISTORTIONS
            ]
            rows.append(f"| {label} | `{extractor}` | {' | '.join(cells)} |")
            label = ""
    return rows


def rewrite_table(page: str, rows: Sequence[str]) -> str:
    """Replace the rows of the table in a page."""
    lines = page.splitlines()
    start = lines.index(HEADER) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return "\n".join([*lines[:start], *rows, *lines[end:]]) + "\n"


def main() -> None:
    """Measure, and write the record and the table."""
    names = sys.argv[1:] or [row.data for row in ROWS]
    recorded = read_json(RECORD) if RECORD.is_file() else {}
    for row in ROWS:
        if row.data in names:
            recorded[row.data] = {"n": row.n, "measure": MEASURE, "thresholds": measure(row)}
    recorded = {row.data: recorded[row.data] for row in ROWS if row.data in recorded}
    write_text(RECORD, json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, rewrite_table(page, render_rows(recorded)))


if __name__ == "__main__":
    main()
