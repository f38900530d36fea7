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

# extensions that say what a file contains
# fmt: off
FILE_FORMATS = frozenset([
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".svg", ".pdf",
    ".mp4", ".html", ".htm", ".json", ".csv", ".txt", ".md", ".yaml", ".yml", ".npz", ".zip",
])
# fmt: on


def parse_path(argument: str | Path) -> Path:
    """Parse a path, and expand a leading ``~``, which a shell leaves in ``--out=~/a.png``.

    Typer passes default values, which are paths, too.
    """
    text = str(argument)
    if not text.strip():
        # Path("") is the working folder
        raise typer.BadParameter(
            "the path is empty, perhaps from an unset shell variable. Name one"
        )
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text and not os.path.lexists(text):
        raise typer.BadParameter(f"{text}: home folder not found. Use an absolute path")
    return Path(expanded)


def parse_target(text: str) -> str:
    """Parse a folder, or an address such as hf:owner/name."""
    parse_path(text)
    return text


def parse_file(text: str) -> Path:
    """Parse the path of a file to write."""
    if text.endswith(("/", os.sep)):
        raise typer.BadParameter(f"{text} is the path of a folder. Name a file")
    return parse_path(text)


def parse_png(text: str) -> Path:
    """Parse the path of a PNG file to write."""
    return _check_format(parse_file(text), ".png")


def parse_json(text: str) -> Path:
    """Parse the path of a JSON file to write."""
    return _check_format(parse_file(text), ".json")


def parse_html(text: str) -> Path:
    """Parse the path of an HTML file to write."""
    return _check_format(parse_file(text), ".html", ".htm")


def _check_format(path: Path, *suffixes: str) -> Path:
    """Refuse the extension of another format, which viewers would trust more than the content."""
    suffix = path.suffix.lower()
    if suffix in FILE_FORMATS and suffix not in suffixes:
        raise typer.BadParameter(
            f"{path}: only {suffixes[0]} files are written. Name it {path.stem}{suffixes[0]}"
        )
    return path
