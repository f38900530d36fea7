"""Text files that are whole whoever reads them: written at once, read without the row that is being written."""

from __future__ import annotations

import csv
import os
from pathlib import Path


def write_text(path: Path, text: str, errors: str = "surrogateescape") -> None:
    """Write a UTF-8 text file, complete or not at all; ``errors`` as for ``str.encode``."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8", errors=errors, newline="\n")  # file names may be no valid text
    os.replace(unfinished, path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a CSV file that may be written at this moment; empty if there is no file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))
