"""Tell the files that the lab writes into a run folder from files of the user."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gan_lab.utils.errors import UserError
from gan_lab.utils.output import MANIFEST_NAME, list_unchanged, read_records

# What the lab writes without a record. Names of single files of a run folder:
RUN_FILES = frozenset(
    [
        "config.yaml",
        "command.txt",
        "environment.txt",
        "data.txt",
        "start_from.txt",
        "metrics.csv",
        "timing.csv",
        "health.csv",
        "summary.json",
        "scores.json",
        "probe.json",
        "reals.png",
        "neighbours.png",
        "report.html",
    ]
)
# Patterns of names, by the folder inside the run folder. Earlier versions did not record the output
# of commands such as ``sample``.
FILE_PATTERNS = {
    "": re.compile(
        r"(sample|walk\d+|code\d+|mix\d+-\d+-layers\d+-?\d*|reconstruct|interpolate)"
        r"-n\d+[\w.=,-]*\.png|(project(-z|-w|-wplus)?|directions)(-(last|raw|\d+|best-\w+))?"
        r"\.(png|json|safetensors)"
    ),
    "samples": re.compile(r"\d+\.(png|npz)"),
    "checkpoints": re.compile(r"(iteration-\d+|last|best(-.+)?|new)\.ckpt"),
}
# Folders of trackers, which choose the names of their files.
TRACKER_FOLDERS = ("wandb", "tensorboard")
# Temporary files of atomic writes, also nested ones, and folders of exports: a killed process
# leaves them behind.
UNFINISHED_FILE = re.compile(r"\.{1,2}gan-lab-[0-9a-f]+(\.\w+)?")
UNFINISHED_FOLDER = re.compile(r"\.gan-lab-[0-9a-f]{16}")
# Files that operating systems and editors leave in every folder.
SYSTEM_FILE = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\.nfs\w+", re.IGNORECASE)


def clear_run(folder: Path) -> None:
    """Delete all files of a run, but keep the folder.

    Raises:
        UserError: The folder contains a file that the lab did not write. Nothing is deleted.
    """
    check_deletable(folder)
    # These two come last: a killed command leaves a folder that is still known to be a run.
    last = ("checkpoints", "config.yaml")
    for child in sorted(folder.iterdir(), key=lambda path: (path.name in last, path.name)):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def check_deletable(folder: Path) -> None:
    """Raise UserError if a run folder contains a file that the lab did not write."""
    foreign = next(find_foreign(folder), None)
    if foreign is not None:
        raise UserError(
            f"run.overwrite=true would delete {foreign}, which is not output of gan-lab, or has "
            "changed since. Move it out of the run folder, or choose another run.id"
        )


def find_foreign(run: Path, inside: str = "") -> Iterator[Path]:
    """Yield the files and links in a run folder that the lab did not write, in order.

    Files that were recorded when they were written (``utils/output.py``) and have changed since are
    files of the user, too.
    """
    folder = run / inside
    records = read_records(folder)
    unchanged = list_unchanged(folder, records)
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink():
            is_known = UNFINISHED_FOLDER.fullmatch(child.name) or (
                not inside and child.name in TRACKER_FOLDERS
            )
            if not is_known:
                yield from find_foreign(run, os.path.join(inside, child.name))
        elif child.name in records:
            if child.name not in unchanged:
                yield child
        elif child.is_symlink() or not _is_known(child.name, inside):
            yield child


def _is_known(name: str, inside: str) -> bool:
    """Return whether a file without a record has a name that the lab uses, or is litter."""
    if name == MANIFEST_NAME or UNFINISHED_FILE.fullmatch(name) or SYSTEM_FILE.fullmatch(name):
        return True
    # An atomic write leaves a file with a leading dot if the process is killed.
    name = name.removeprefix(".")
    pattern = FILE_PATTERNS.get(inside)
    return (not inside and name in RUN_FILES) or bool(pattern and pattern.fullmatch(name))
