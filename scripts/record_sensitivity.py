"""Record the sensitivity of the extractors and write the two tables of docs/metrics.md.

Writes docs/results/sensitivity.json: for each row and score the smallest severity of each
distortion that the score detects, null if it does not detect the largest one. Arguments select some
rows; the others keep their values. All of them take about ten minutes of one core.
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
from gan_lab.config.extensions import explain_unknown_name  # noqa: E402
from gan_lab.sensitivity import detection  # noqa: E402
from gan_lab.sensitivity.distortions import DISTORTIONS, Distortion  # noqa: E402
from gan_lab.sensitivity.sensitivity_page import format_threshold  # noqa: E402
from gan_lab.utils.files import read_json, write_text  # noqa: E402

RECORD = REPOSITORY / "docs" / "results" / "sensitivity.json"
PAGE = REPOSITORY / "docs" / "metrics.md"
HEADER = (
    "| data, n | extractor | blur, ‰ of the side | noise, levels | blocks shuffled | shift, % "
    "| less light, % | classes lost | copies, % | repeated, % |"
)
STYLE_HEADER = "| digits, n = 650 | slant, % lost | size, % lost | stroke width, % lost |"
DEFECTS = tuple(each for each in DISTORTIONS if not each.needs_digits)
STYLE_LOSSES = tuple(each for each in DISTORTIONS if each.needs_digits)
# score, then distortion: threshold
Thresholds = dict[str, dict[str, int | None]]


@dataclass(frozen=True)
class Row:
    """Scores on a data set, as ``make judge`` takes it."""

    name: str
    data: str
    n: int
    extractors: tuple[str, ...] = ("lite0_mid", "lite0", "pixels", "random")
    overrides: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    distortions: tuple[Distortion, ...] = DEFECTS

    @property
    def shown(self) -> tuple[str, ...]:
        """The scores in the table: the kernel distances, if none is named."""
        return self.scores or tuple(f"kd_{extractor}" for extractor in self.extractors)


SAMPLE = ("data.source=sample",)
# as many digits as the tables of digits compare; lite0_mid has too many features for a Fréchet
# distance of them
STYLES = Row(
    "styles",
    "mnist",
    650,
    ("digits", "pixels", "lite0_mid"),
    SAMPLE,
    ("fd_digits", "fd_pixels", "kd_lite0_mid"),
    STYLE_LOSSES,
)
ROWS = (
    Row("faces32", "faces32", 40),
    Row("emoji", "emoji", 50),
    Row("mnist", "mnist", 100, ("digits", *Row.extractors), SAMPLE),
    STYLES,
)


def measure(row: Row) -> Thresholds:
    """Measure the thresholds of the scores of a row."""
    config = loading.load("gan", [f"data={row.data}", *row.overrides]).config
    served = datasets.load(config.data, config.run.seed)
    report = detection.measure_sensitivity(
        served, row.n, [*row.extractors], config.metrics, row.distortions
    )
    return {
        score: {
            each.name: report.get_result(score, each.name).threshold for each in report.distortions
        }
        for score in row.shown
    }


def render_rows(recorded: dict[str, Any]) -> list[str]:
    """Render the rows of the first table; cells of distortions that do not apply are empty."""
    rows = []
    for name, entry in recorded.items():
        if name == STYLES.name:
            continue
        label = f"{name}, {entry['n']}"
        for score, thresholds in entry["thresholds"].items():
            cells = " | ".join(_render_cells(thresholds, DEFECTS))
            rows.append(f"| {label} | `{score.removeprefix('kd_')}` | {cells} |")
            label = ""
    return rows


def render_style_rows(recorded: dict[str, Any]) -> list[str]:
    """Render the rows of the table of styles."""
    thresholds = recorded[STYLES.name]["thresholds"] if STYLES.name in recorded else {}
    return [
        f"| `{score}` | {' | '.join(_render_cells(found, STYLE_LOSSES))} |"
        for score, found in thresholds.items()
    ]


def _render_cells(
    thresholds: dict[str, int | None], distortions: Sequence[Distortion]
) -> list[str]:
    return [
        format_threshold(thresholds[each.name]) if each.name in thresholds else ""
        for each in distortions
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
    known = [row.name for row in ROWS]
    names = sys.argv[1:] or known
    if unknown := set(names) - set(known):
        sys.exit(explain_unknown_name("row", min(unknown), known))
    recorded = read_json(RECORD) if RECORD.is_file() else {}
    for row in ROWS:
        if row.name in names:
            recorded[row.name] = {"n": row.n, "thresholds": measure(row)}
    recorded = {row.name: recorded[row.name] for row in ROWS if row.name in recorded}
    write_text(RECORD, json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, rewrite_tables(page, recorded))


if __name__ == "__main__":
    main()
