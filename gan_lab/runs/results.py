"""The scores of a run in ``summary.json``, which training and each evaluation write."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_json, write_text
from gan_lab.utils.numbers import mean_and_spread

# The weights that are scored, by their keys in summary.json.
WEIGHTS = {
    "best": "EMA weights of the best checkpoint",
    "last": "EMA weights of the last iteration",
    "raw": "raw weights of the last iteration",
}
# Names of weights in summaries of earlier versions.
RENAMED_WEIGHTS = {"live": "raw"}


@dataclass(frozen=True)
class Score:
    """A score of a checkpoint. ``str(score)`` is such as "1.76 ± 0.12".

    Attributes:
        value: The value.
        spread: Its standard deviation; None: not known.
        higher_is_better: Its direction; None: it has none, like a baseline.
        protocol: Everything that the value depends on, except for the weights.
        note: A remark for reports.
    """

    value: float
    spread: float | None = None
    higher_is_better: bool | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def reference(self) -> float | None:
        """The real-vs-real reference: the value for real images instead of generated ones."""
        return self.protocol.get("floor")

    def __str__(self) -> str:
        return mean_and_spread(self.value, self.spread, 4)


def read_summary(folder: Path) -> dict[str, Any]:
    """Read ``summary.json`` of a run folder; empty if the run is not finished.

    Raises:
        UserError: The file is damaged.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return {}
    summary = read_json(path)
    try:
        counts = [summary.get(key, 0) for key in ("iteration", "images", "best_iteration")]
        entries = [
            entry for scores in summary.get("scores", {}).values() for entry in scores.values()
        ]
        complete = all(isinstance(count, int) for count in counts) and all(
            isinstance(entry["value"], int | float) and isinstance(entry.get("protocol", {}), dict)
            for entry in entries
        )
    except (AttributeError, KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(
            f"{path} is damaged: it contains an invalid score or count. Delete it, then score the "
            "run again with 'gan-lab evaluate'."
        )
    if "scores" in summary:
        summary["scores"] = {
            RENAMED_WEIGHTS.get(weights, weights): scores
            for weights, scores in summary["scores"].items()
        }
    return dict(summary)


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` of a run folder."""
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
