"""Parsers of the arguments and options that are paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace earlier output of the lab; never other or edited files."
    ),
]


def parse_path(argument: str | Path) -> Path:
    """Parse a path, and expand a leading ``~``, which a shell leaves in ``--out=~/a.png``.

    Typer passes default values, which are paths, too.
    """
    text = str(argument)
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text and not os.path.lexists(text):
        raise typer.BadParameter(f"{text}: home folder not found. Use an absolute path")
    return Path(expanded)


def parse_file(text: str) -> Path:
    """Parse the path of a file to write."""
    if text.endswith(("/", os.sep)):
        raise typer.BadParameter(f"{text} is the path of a folder. Name a file")
    return parse_path(text)
