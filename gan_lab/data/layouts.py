"""Recognize folder layouts, ignoring case: split folders, two domains, zip archives."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from gan_lab.data.cache import cache_folder
from gan_lab.data.decoding import hash_file_stats
from gan_lab.data.download import unpack
from gan_lab.utils.errors import UserError

TRAIN_NAMES = ("train", "training")
# The first of these folders that exists is held out.
HELD_OUT_NAMES = ("test", "testing", "val", "valid", "validation", "dev")
DOMAIN_PATTERNS = ("{}A {}B", "{}/A {}/B", "A/{} B/{}")
DOMAIN_LAYOUTS = (
    "trainA and trainB, or train/A and train/B, or A/train and B/train (and test or val likewise), "
    "or A and B"
)


class DomainFolders(NamedTuple):
    """The training folders of domains A and B, and the held-out ones if there are any."""

    train: tuple[Path, Path]
    held_out: tuple[Path, Path] | None


def resolve_root(root: str) -> Path:
    """Return the folder ``data.root``, or the contents of a zip file, unpacked once into the cache.

    Raises:
        UserError: The path is neither a folder nor a zip file.
    """
    path = Path(root)
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"data.root={root} does not exist. Set it to a folder or a zip file.")
    if not zipfile.is_zipfile(path):
        raise UserError(f"data.root={root} is not a zip file. Set it to a folder or a zip file.")
    folder = cache_folder(Path("data")) / f"unpacked-{path.stem}-{hash_file_stats([(path,)])[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not (folder / ".complete").is_file():
            if problem := unpack(path, folder):
                raise UserError(problem)
            (folder / ".complete").touch()
    inside = _list_folders(folder)
    has_files = any(child.is_file() for child in folder.iterdir() if child.name != ".complete")
    if len(inside) == 1 and not has_files and inside[0].name.lower() not in TRAIN_NAMES:
        return inside[0]
    return folder


def find_folder(root: Path, name: str) -> Path | None:
    """Find the folder ``name`` (``A/train``: nested) under a root, ignoring case.

    Raises:
        UserError: Two folders differ only in case.
    """
    folder = root
    for part in name.split("/"):
        matches = [child for child in _list_folders(folder) if child.name.lower() == part.lower()]
        if len(matches) > 1:
            raise UserError(
                f"{folder} contains both {matches[0].name} and {matches[1].name}. "
                f"Keep one of them as {part}."
            )
        if not matches:
            return None
        folder = matches[0]
    return folder


def find_domains(root: Path) -> DomainFolders | None:
    """Find the folders of domains A and B, paired or not, in any layout; None if there are none.

    Raises:
        UserError: One of the two domains is missing, or there are two layouts.
    """
    candidates: dict[str, DomainFolders] = {}
    for pattern in DOMAIN_PATTERNS:
        train = _find_pair(root, pattern, TRAIN_NAMES)
        if train:
            candidates[pattern.format("train", "train").replace(" ", " and ")] = DomainFolders(
                train, _find_pair(root, pattern, HELD_OUT_NAMES)
            )
    if not candidates and (plain := _find_both(root, ["A", "B"])):
        candidates["A and B"] = DomainFolders(plain, None)
    if len(candidates) > 1:
        raise UserError(
            f"{root} has two layouts: {', as well as '.join(candidates)}. Keep one of them."
        )
    return next(iter(candidates.values()), None)


def find_splits(root: Path) -> tuple[Path, Path | None, list[str]] | None:
    """Return the training folder, the held-out one and the names of unused ones.

    None if the root contains other folders than those of splits.
    """
    inside = _list_folders(root)
    names = {folder.name.lower() for folder in inside}
    if not names & set(TRAIN_NAMES) or names - set(TRAIN_NAMES) - set(HELD_OUT_NAMES):
        return None
    train = next(folder for name in TRAIN_NAMES if (folder := find_folder(root, name)))
    held = next((folder for name in HELD_OUT_NAMES if (folder := find_folder(root, name))), None)
    return train, held, sorted(folder.name for folder in inside if folder not in (train, held))


def _find_pair(root: Path, pattern: str, names: Sequence[str]) -> tuple[Path, Path] | None:
    for name in names:
        if pair := _find_both(root, pattern.format(name, name).split()):
            return pair
    return None


def _find_both(root: Path, names: list[str]) -> tuple[Path, Path] | None:
    a, b = (find_folder(root, name) for name in names)
    if (a is None) != (b is None):
        raise UserError(
            f"{root} contains {names[a is None]}, but not {names[a is not None]}. "
            f"Use one of these layouts: {DOMAIN_LAYOUTS}."
        )
    return (a, b) if a and b else None


def _list_folders(root: Path) -> list[Path]:
    return sorted(
        child
        for child in root.iterdir()
        if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
    )
