"""Recognise folder layouts: training and held-out folders, two sides, an archive. Capitals do not matter."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from gan_lab.data.cache import cache_folder
from gan_lab.data.decoding import listing
from gan_lab.data.download import unpack
from gan_lab.utils.errors import UserError

TRAIN = ("train", "training")
HELD = (
    "test",
    "testing",
    "val",
    "valid",
    "validation",
    "dev",
)  # the first that is there is held out
SIDES = ("{}A {}B", "{}/A {}/B", "A/{} B/{}")
TWO_SIDES = "trainA and trainB, or train/A and train/B, or A/train and B/train (and test, or val, likewise), or A and B"


class Sides(NamedTuple):
    """Two folders for training, and two that are held out, where there are any."""

    train: tuple[Path, Path]
    held: tuple[Path, Path] | None


def place(root: str) -> Path:
    """The folder that ``data.root`` names; of a zip file what is in it, unpacked once beside the decoded caches.

    Raises UserError if there is neither.
    """
    path = Path(root)
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"data.root={root}: there is no such folder")
    if not zipfile.is_zipfile(path):
        raise UserError(f"data.root={root} is a file: name a folder, or a zip file")
    folder = cache_folder(Path("data")) / f"unpacked-{path.stem}-{listing([(path,)])[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not (folder / ".complete").is_file():
            if problem := unpack(path, folder):
                raise UserError(problem)
            (folder / ".complete").touch()
    inside = _folders(folder)
    alone = len(inside) == 1 and not any(
        child.is_file() for child in folder.iterdir() if child.name != ".complete"
    )
    return inside[0] if alone and inside[0].name.lower() not in TRAIN else folder


def find_folder(root: Path, name: str) -> Path | None:
    """The folder ``name`` (``A/train``: one in the other) under a root, whatever its capitals.

    Raises UserError if there are two that differ in them alone.
    """
    here = root
    for part in name.split("/"):
        same = [child for child in _folders(here) if child.name.lower() == part.lower()]
        if len(same) > 1:
            raise UserError(
                f"{here} holds both {same[0].name} and {same[1].name}: which of them is {part}?"
            )
        if not same:
            return None
        here = same[0]
    return here


def two_sides(root: Path) -> Sides | None:
    """The folders of two sides, of pairs or not, in any of the usual layouts; None without them.

    Raises UserError where there is one side only, and where two layouts are there at once.
    """
    candidates: dict[str, Sides] = {}
    for pattern in SIDES:
        train = _pair(root, pattern, TRAIN)
        if train:
            candidates[pattern.format("train", "train").replace(" ", " and ")] = Sides(
                train, _pair(root, pattern, HELD)
            )
    if not candidates and (plain := _find_both(root, ["A", "B"])):
        candidates["A and B"] = Sides(plain, None)
    if len(candidates) > 1:
        raise UserError(
            f"{root} is laid out in two ways, {' as well as '.join(candidates)}: keep one of them"
        )
    return next(iter(candidates.values()), None)


def parts(root: Path) -> tuple[Path, Path | None, list[str]] | None:
    """The training folder and the held-out one, where all that is in a root are such folders; and those not used."""
    inside = _folders(root)
    names = {folder.name.lower() for folder in inside}
    if not names & set(TRAIN) or names - set(TRAIN) - set(HELD):
        return None
    train = next(folder for name in TRAIN if (folder := find_folder(root, name)))
    held = next((folder for name in HELD if (folder := find_folder(root, name))), None)
    return train, held, sorted(folder.name for folder in inside if folder not in (train, held))


def _pair(root: Path, pattern: str, names: Sequence[str]) -> tuple[Path, Path] | None:
    return next(
        (pair for name in names if (pair := _find_both(root, pattern.format(name, name).split()))),
        None,
    )


def _find_both(root: Path, sides: list[str]) -> tuple[Path, Path] | None:
    a, b = (find_folder(root, side) for side in sides)
    if (a is None) != (b is None):
        raise UserError(
            f"{root} holds {sides[a is None]}, but not {sides[a is not None]}: there should be {TWO_SIDES}"
        )
    return (a, b) if a and b else None


def _folders(root: Path) -> list[Path]:
    return sorted(
        child
        for child in root.iterdir()
        if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
    )
