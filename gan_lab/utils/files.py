"""Files that readers never see half-written, by atomic writes and reading of complete CSV rows; and those that ship."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gan_lab.utils.errors import UserError, first_line

PACKAGE = Path(__file__).parent.parent
MARKER = ".gan-lab"  # a file in every folder of runs, so that a run is never read as training data


def shipped(name: str, inside: str | None = None) -> Path:
    """A folder that ships with the lab: as ``inside``, or by the same name, in the package when installed, else beside it."""
    installed = PACKAGE / (inside or name)
    return installed if installed.is_dir() else PACKAGE.parent / name


@contextmanager
def atomic_path(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a hidden path to write to, which replaces ``path`` at the end: the file is complete or absent.

    ``suffix`` separates the hidden paths of several writers.
    """
    unfinished = path.with_name(f".{path.name}{suffix}")
    yield unfinished
    os.replace(unfinished, path)


def write_text(path: Path, text: str, errors: str = "surrogateescape", suffix: str = "") -> None:
    """Write a UTF-8 text file, complete or not at all; ``errors`` as for ``str.encode``: file names may need it."""
    with atomic_path(path, suffix) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors=errors, newline="\n")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a CSV file that another process may be writing; empty if there is no file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError, which names the file, if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # a JSONDecodeError or a UnicodeDecodeError
        raise UserError(
            f"{path} is damaged: {first_line(error)}. Delete it, then repeat the command that wrote it"
        ) from None
