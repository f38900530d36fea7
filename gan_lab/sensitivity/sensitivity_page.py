"""The page of a judgement: one chart for each disturbance, and the smallest doses that are told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gan_lab.report import run_page
from gan_lab.sensitivity.detection import NULL, REPEATS, Judgement
from gan_lab.sensitivity.distortions import Disturbance
from gan_lab.utils.files import write_text

LEAST, MOST = 0.5, 1000.0  # deviations on the logarithmic axis
LINES = (1, 10, 100, 1000)


def smallest(judgement: Judgement) -> list[tuple[str, list[str]]]:
    """A row for each judge: the smallest dose of each disturbance that it tells, or a dash."""
    rows = []
    for judge in judgement.judges:
        doses = [
            judgement.of(judge, disturbance.name).smallest for disturbance in judgement.disturbances
        ]
        rows.append((judge, ["-" if dose is None else str(dose) for dose in doses]))
    return rows


def heads(judgement: Judgement) -> list[str]:
    """The title of each column of ``smallest``."""
    return [f"{one.name} ({one.unit})" for one in judgement.disturbances]


def write(judgement: Judgement, out: Path) -> Path:
    """Write the page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    charts = [_chart(judgement, disturbance) for disturbance in judgement.disturbances]
    title = f"Judges of {judgement.data}, {judgement.n} fakes against {judgement.n} reals"
    values: dict[str, Any] = {
        "judgement": judgement,
        "heads": heads(judgement),
        "rows": smallest(judgement),
        "charts": charts,
    }
    values |= {"null": NULL, "repeats": REPEATS, "lines": [(line, _height(line)) for line in LINES]}
    write_text(out, run_page.render("judge.html", title=title, data={"charts": []}, **values))
    return out


def _chart(judgement: Judgement, disturbance: Disturbance) -> dict[str, Any]:
    """Lines in a drawing of 640 x 200, the doses at equal steps."""
    doses = disturbance.doses
    places = [50 + 580 * (i + 0.5) / len(doses) for i in range(len(doses))]
    lines = []
    for judge in judgement.judges:
        answer = judgement.of(judge, disturbance.name)
        points = [
            (round(x, 1), _height(abs(value)))
            for x, value in zip(places, answer.deviations, strict=True)
        ]
        lines.append(
            {"judge": judge, "points": points, "told": answer.told, "deviations": answer.deviations}
        )
    return {
        "disturbance": disturbance,
        "lines": lines,
        "ticks": list(zip(places, doses, strict=True)),
    }


def _height(deviation: float) -> float:
    share = math.log(min(MOST, max(LEAST, deviation)) / LEAST) / math.log(MOST / LEAST)
    return round(180 - 165 * share, 1)
