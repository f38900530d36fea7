"""The sensitivity page: detection thresholds, and one chart per distortion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gan_lab.report import run_page
from gan_lab.sensitivity.detection import DISTORTED_REPEATS, NULL_REPEATS, SensitivityReport
from gan_lab.sensitivity.distortions import Distortion
from gan_lab.utils.files import write_text
from gan_lab.utils.output import OutputFiles

# Range of the logarithmic axis, in standard deviations.
MIN_DEVIATION, MAX_DEVIATION = 0.5, 1000.0
GRID_DEVIATIONS = (1, 10, 100, 1000)


def list_thresholds(report: SensitivityReport) -> list[tuple[str, list[str]]]:
    """List a row per score: its detection threshold for each distortion, or a dash."""
    rows = []
    for score in report.scores:
        results = [report.get_result(score, each.name) for each in report.distortions]
        thresholds = [result.threshold for result in results]
        rows.append((score, [format_threshold(each) for each in thresholds]))
    return rows


def format_threshold(threshold: int | None) -> str:
    """Format a detection threshold: a dash if even the largest severity is not detected."""
    return "-" if threshold is None else str(threshold)


def list_columns(report: SensitivityReport) -> list[str]:
    """List the titles of the columns of ``list_thresholds``."""
    return [f"{distortion.name} ({distortion.unit})" for distortion in report.distortions]


def write_page(report: SensitivityReport, out: Path) -> Path:
    """Write the page and return its path."""
    page = run_page.render(
        "sensitivity.html",
        title=f"Sensitivity of metrics on {report.data}, {report.n} fakes against {report.n} reals",
        data={"charts": []},
        report=report,
        columns=list_columns(report),
        rows=list_thresholds(report),
        charts=[_build_chart(report, distortion) for distortion in report.distortions],
        null_repeats=NULL_REPEATS,
        distorted_repeats=DISTORTED_REPEATS,
        lines=[(deviation, _scale_height(deviation)) for deviation in GRID_DEVIATIONS],
    )
    with OutputFiles(default_path=True).write(out) as unfinished:
        write_text(unfinished, page)
    return out


def _build_chart(report: SensitivityReport, distortion: Distortion) -> dict[str, Any]:
    """Build lines in a drawing of 640 x 200, with the severities at equal steps."""
    severities = distortion.severities
    positions = [50 + 580 * (i + 0.5) / len(severities) for i in range(len(severities))]
    lines = []
    for score in report.scores:
        result = report.get_result(score, distortion.name)
        points = [
            (round(x, 1), _scale_height(abs(deviation)))
            for x, deviation in zip(positions, result.deviations, strict=True)
        ]
        lines.append(
            {
                "score": score,
                "points": points,
                "detected": result.detected,
                "deviations": result.deviations,
            }
        )
    ticks = list(zip(positions, severities, strict=True))
    return {"distortion": distortion, "lines": lines, "ticks": ticks}


def _scale_height(deviation: float) -> float:
    clipped = min(MAX_DEVIATION, max(MIN_DEVIATION, deviation))
    share = math.log(clipped / MIN_DEVIATION) / math.log(MAX_DEVIATION / MIN_DEVIATION)
    return round(180 - 165 * share, 1)
