"""The scores of a run: ``summary.json``, written at the end of a training and by each evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gan_lab.utils.files import write_text

# whose scores there are
WEIGHTS = {
    "best": "averaged weights of the best iteration",
    "last": "averaged weights of the last iteration",
    "live": "live weights of the last iteration",
}


def read_summary(folder: Path) -> dict[str, Any]:
    """Read ``summary.json`` of a run folder; empty if the run has not ended yet."""
    path = folder / "summary.json"
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return summary


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` of a run folder."""
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
