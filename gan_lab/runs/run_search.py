"""Find the run folders below a folder, also for errors about a folder that is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

# Of an error message, which must not search a disk.
MAX_NAMED_RUNS = 5
MAX_SEARCHED_DEPTH = 2


def find_run_folders(root: Path, depth: int | None = None) -> Iterator[Path]:
    """Find the run folders below a folder, without hidden ones. Run folders are not searched.

    Args:
        root: The folder, which may be a run itself.
        depth: Maximum number of folders between it and a run, inclusive; None: any.
    """
    if is_run_folder(root):
        yield root
        return
    if depth == 0:
        return
    try:
        with os.scandir(root) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in sorted(folders):
        if not name.startswith("."):
            yield from find_run_folders(root / name, None if depth is None else depth - 1)


def is_run_folder(folder: Path) -> bool:
    """Return True for the folder of a run, which may be damaged."""
    # False in a folder that must not be read, where methods of Path raise PermissionError
    return os.path.isfile(folder / "config.yaml") and os.path.isdir(folder / "checkpoints")


def suggest_runs(folder: Path) -> str:
    """Suggest the runs in a folder, or next to one that does not exist, for an error message."""
    searched = folder if folder.is_dir() else folder.parent
    runs = find_run_folders(searched, MAX_SEARCHED_DEPTH)
    found = [str(path) for path in islice(runs, MAX_NAMED_RUNS + 1)]
    if not found or not searched.name:
        return "Name a folder such as runs/<experiment>/<run id>."
    more = ", ..." if len(found) > MAX_NAMED_RUNS else ""
    return f"Name a run: {', '.join(found[:MAX_NAMED_RUNS])}{more}"
