"""List the runs below a folder with status, headline score, alerts and age. Needs no torch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.runs.run import Run
from gan_lab.runs.run_lock import is_locked, list_locked_inodes
from gan_lab.runs.run_search import find_run_folders
from gan_lab.utils.errors import UserError, first_line

# Files of a run that change while it trains. Its age is that of the newest one.
DATED_FILES = ("metrics.csv", "summary.json", "config.yaml")


@dataclass(frozen=True)
class ListedRun:
    """A line of the list of runs.

    Attributes:
        path: The folder.
        name: ``experiment/id``.
        family: The family; empty if it is unknown.
        status: training, finished, unscored, unfinished or damaged.
        images: Training images seen.
        budget_images: The budget in training images.
        headline: Name of the headline score; empty if there is none.
        value: Its value.
        higher_is_better: Its direction.
        alerts: Number of health alerts.
        changed: Time of the last change in seconds since the epoch.
        problem: Why the run is damaged.
        grid: The last sample grid.
    """

    path: Path
    name: str
    family: str = ""
    status: str = "damaged"
    images: int = 0
    budget_images: int = 0
    headline: str = ""
    value: float | None = None
    higher_is_better: bool | None = None
    alerts: int = 0
    changed: float = 0.0
    problem: str = ""
    grid: Path | None = None

    @property
    def text(self) -> str:
        """The text that filters search."""
        return f"{self.path} {self.family} {self.status} {self.headline}".lower()


def list_runs(root: Path) -> list[ListedRun]:
    """List the runs below a folder.

    Raises:
        UserError: There is no such folder, or no run below it.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}. Name the parent folder of runs (run.root)")
    locked = list_locked_inodes()
    runs = [describe_run(folder, locked) for folder in find_run_folders(root)]
    if not runs:
        raise UserError(f"No runs below {root}. Train one with `gan-lab train`, or name its root")
    return runs


def describe_run(folder: Path, locked: frozenset[int] = frozenset()) -> ListedRun:
    """Describe a run folder. If it cannot be read, its status is "damaged"."""
    changed = max((get_time(folder / name) for name in DATED_FILES), default=0.0)
    name = f"{folder.resolve().parent.name}/{folder.name}"
    try:
        run = Run(folder)
        headline, value = find_headline(run)
        return ListedRun(
            path=folder,
            name=name,
            family=str(run.values.get("family", "")),
            status="training" if is_locked(folder, locked) else run.status,
            images=run.images if run.status == "unfinished" else run.summary["images"],
            budget_images=run.budget_images,
            headline=headline,
            value=value,
            higher_is_better=run.higher_is_better.get(headline),
            alerts=len(run.alerts),
            changed=changed,
            grid=run.grids[-1][1] if run.grids else None,
        )
    except Exception as error:
        # One unreadable run, or one that is being deleted, must not hide the others: files without
        # permission, and valid JSON of another type than expected.
        return ListedRun(folder, name, changed=changed, problem=first_line(error))


def find_headline(run: Run) -> tuple[str, float | None]:
    """Return the headline score of the best checkpoint; during training its best value so far."""
    name = run.headline
    if name is None:
        return "", None
    if name in run.scores:
        return name, run.scores[name].value
    values = [value for _, value in run.history.get(name, []) if value == value]
    choose: Callable[[list[float]], float] = max if run.higher_is_better.get(name) else min
    return name, choose(values) if values else None


def select_runs(runs: Sequence[ListedRun], text: str = "", sort: str = "age") -> list[ListedRun]:
    """Select the runs whose text has a word that begins with each word of ``text``; sort them.

    Raises:
        UserError: The order is unknown.
    """
    if sort not in ORDERS:
        raise UserError(explain_unknown_name("order", sort, [*ORDERS]))
    # "finished" is no part of "unfinished"
    words = [re.compile(rf"(?<![a-z0-9]){re.escape(word)}") for word in text.lower().split()]
    found = [run for run in runs if all(word.search(run.text) for word in words)]
    return sorted(sorted(found, key=ORDERS["name"]), key=ORDERS[sort])


def rank_score(run: ListedRun) -> tuple[Any, ...]:
    """Return a sort key: the best score first, by metric, because metrics are not comparable."""
    if run.value is None:
        return (True, run.headline, 0.0)
    return (False, run.headline, -run.value if run.higher_is_better else run.value)


ORDERS: dict[str, Callable[[ListedRun], Any]] = {
    "age": lambda run: -run.changed,
    "name": lambda run: str(run.path),
    "status": lambda run: (run.status, run.name),
    "images": lambda run: -run.images,
    "score": rank_score,
    "alerts": lambda run: -run.alerts,
}


def format_age(changed: float, now: float | None = None) -> str:
    """Format the time since a change in its largest unit.

    >>> format_age(0, 59), format_age(0, 3700), format_age(0, 200_000)
    ('0 min', '1 h', '2 d')
    """
    seconds = max(0.0, (time.time() if now is None else now) - changed)
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 60)} min"


def get_time(path: Path) -> float:
    """Return the time of the last change of a file; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
