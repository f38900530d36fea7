"""Atomic writes, reading of files that are being written, and files shipped with the lab."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gan_lab.utils.errors import UserError, first_line

PACKAGE = Path(__file__).parent.parent
# a file in every folder of runs, so that runs are never read as training data
MARKER_NAME = ".gan-lab"
# of a file name in characters; twice as many bytes, as file systems allow 255
MAX_NAME_LENGTH = 100


def find_shipped_folder(name: str, inside: str | None = None) -> Path:
    """Return a folder shipped with the lab.

    Args:
        name: Its path in the repository.
        inside: Its path in the installed package, if different.
    """
    installed = PACKAGE / (inside or name)
    return installed if installed.is_dir() else PACKAGE.parent / name


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success: the file is always complete.

    For files in the lab's own folders. ``output.OutputFiles`` writes to paths that users name.
    """
    unfinished = path.with_name(f".{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, errors: str = "surrogateescape") -> None:
    """Write a UTF-8 text file atomically; ``errors`` as for ``str.encode``."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors=errors, newline="\n")


def make_file_name(text: str, safe: str = r"\w.=,-") -> str:
    """Return a file name for a text: different names for different texts.

    Characters that are unsafe on some file system are replaced by ``_``. If the name is then not
    the text, or is long, it ends in a hash of the text. Append a suffix such as ``.png`` to the
    result.

    Args:
        text: The text.
        safe: The characters that stay, as in a regular expression.

    >>> make_file_name("lr_d=0.1-seed0"), make_file_name("a/b")
    ('lr_d=0.1-seed0', 'a_b-c14cddc033')
    """
    name = re.sub(f"[^{safe}]+", "_", text)
    # hidden files, options of a command line
    name = re.sub(r"^[.-]|^$", "_", name)
    is_long = len(name) > MAX_NAME_LENGTH or len(os.fsencode(name)) > 2 * MAX_NAME_LENGTH
    if name == text and name and not is_long:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    while len(name) > MAX_NAME_LENGTH - 12 or len(os.fsencode(name)) > 2 * MAX_NAME_LENGTH - 12:
        name = name[:-1]
    return f"{name}-{digest}"


def fold_case(path: str | Path) -> str:
    """Return a text that is equal for paths which are one file where case is ignored.

    macOS also ignores whether an accent is a character of its own.

    >>> fold_case("A/É.png") == fold_case("a/e\N{COMBINING ACUTE ACCENT}.PNG")
    True
    """
    return unicodedata.normalize("NFC", str(path).casefold())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a CSV file, which may still be written; empty without a file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    # JSONDecodeError and UnicodeDecodeError
    except ValueError as error:
        raise UserError(
            f"{path} is damaged: {first_line(error)}. Delete it, then repeat the command that "
            "wrote it"
        ) from None
