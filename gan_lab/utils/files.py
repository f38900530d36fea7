"""Text files that are whole whoever reads them: written at once, read without the row that is being written."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a hidden name to write to, which becomes the file's own at the end: it is complete or not there.

    ``suffix`` tells the hidden names of several writers apart.
    """
    unfinished = path.with_name(f".{path.name}{suffix}")
    yield unfinished
    os.replace(unfinished, path)


def write_text(path: Path, text: str, errors: str = "surrogateescape", suffix: str = "") -> None:
    """Write a UTF-8 text file, complete or not at all; ``errors`` as for ``str.encode``, which file names may need."""
    with atomic_path(path, suffix) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors=errors, newline="\n")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a CSV file that may be written at this moment; empty if there is no file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))
