"""Record the sensitivity of the extractors and write the two tables of docs/metrics.md.

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
# losses of variety in the style of digits
STYLE_HEADER = "| digits, n = 100 | slant, % lost | size, % lost | stroke width, % lost |"
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
    """Render the rows of the first table; cells of distortions that do not apply are empty."""
    rows = []
    for data, entry in recorded.items():
        label = f"{data}, {entry['n']}"
        for extractor, thresholds in entry["thresholds"].items():
            cells = _render_cells(thresholds, of_style=False)
            rows.append(f"| {label} | `{extractor}` | {' | '.join(cells)} |")
            label = ""
    return rows


def render_style_rows(recorded: dict[str, Any]) -> list[str]:
    """Render the rows of the table of styles."""
    return [
        f"| `{extractor}` | {' | '.join(_render_cells(thresholds, of_style=True))} |"
        for extractor, thresholds in recorded[DIGITS.data]["thresholds"].items()
    ]


def _render_cells(thresholds: dict[str, int | None], of_style: bool) -> list[str]:
    return [
        format_threshold(thresholds[each.name]) if each.name in thresholds else ""
        for each in DISTORTIONS
        if each.needs_digits == of_style
    ]


def rewrite_tables(page: str, recorded: dict[str, Any]) -> str:
    """Replace the rows of both tables in a page."""
    page = _rewrite_table(page, HEADER, render_rows(recorded))
    return _rewrite_table(page, STYLE_HEADER, render_style_rows(recorded))


def _rewrite_table(page: str, header: str, rows: Sequence[str]) -> str:
    lines = page.splitlines()
    start = lines.index(header) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return "\n".join([*lines[:start], *rows, *lines[end:]]) + "\n"


def main() -> None:
    """Measure, and write the record and the table."""
    known = [row.data for row in ROWS]
    names = sys.argv[1:] or known
    if unknown := set(names) - set(known):
        sys.exit(f"{', '.join(sorted(unknown))}: no such data set. Choose from {', '.join(known)}")
    recorded = read_json(RECORD) if RECORD.is_file() else {}
    for row in ROWS:
        if row.data in names:
            recorded[row.data] = {"n": row.n, "measure": MEASURE, "thresholds": measure(row)}
    recorded = {row.data: recorded[row.data] for row in ROWS if row.data in recorded}
    write_text(RECORD, json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, rewrite_tables(page, recorded))


if __name__ == "__main__":
    main()
