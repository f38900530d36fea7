"""Recognize folder layouts, ignoring case: split folders, two domains, zip archives."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from filelock import FileLock

from gan_lab.data.archives import describe_problem, unpack
from gan_lab.data.cache import USER_DATA_CACHE, cache_folder, create_cache, hash_file_stats
from gan_lab.data.image_files import Inventory, is_hidden_folder, join_names
from gan_lab.utils.errors import UserError

# The names of the splits, in order of preference.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
TRAIN_NAMES = SPLIT_NAMES["train"]
# Beginnings of further words for them, in several languages: a reason to ask.
SPLIT_STEMS = {
    "train": (
        r"trening|opplæring|entra[iî]ne|entrena|treino|apprentissage|addestra"
        r"|训练|訓練|学習|обуч"
    ),
    "validation": r"eval|验证|驗證|検証|валид",
    "test": r"holdout|heldout|unseen|prueba|essai|prova|测试|測試|テスト|тест",
}
SHORT_NAMES = {"tr": "train", "va": "validation", "vl": "validation", "te": "test", "ts": "test"}
# Words for parts of a data set that are neither classes nor splits.
OTHER_PART = "other"
OTHER_PARTS = re.compile(r"folds?|splits?|partitions?|(sub)?sets?|(un)?labell?ed|query|gallery")
# The first of these folders that exists is held out.
HELD_OUT_NAMES = (*SPLIT_NAMES["test"], *SPLIT_NAMES["validation"])
ALL_NAMES = frozenset([*TRAIN_NAMES, *HELD_OUT_NAMES])
DOMAIN_PATTERNS = ("{}A {}B", "{}/A {}/B", "A/{} B/{}")
DOMAIN_LAYOUTS = (
    "trainA and trainB, or train/A and train/B, or A/train and B/train (and test or val likewise), "
    "or A and B"
)
Layout = Literal["auto", "classes", "splits"]
T = TypeVar("T")


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
        problem = "is no regular file" if path.exists() else "does not exist"
        raise UserError(f"data.root={root} {problem}. Set it to a folder or a zip file.")
    if problem := describe_problem(path):
        raise UserError(problem)
    folder = cache_folder(USER_DATA_CACHE) / f"unpacked-{path.stem}-{hash_file_stats([path])[:12]}"
    create_cache(folder.parent)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        complete = folder.parent / f".{folder.name}.complete"
        # Earlier versions wrote the marker into the folder, where it would count as a file.
        with contextlib.suppress(FileNotFoundError):
            (folder / ".complete").rename(complete)
        if not (complete.is_file() and folder.is_dir()):
            if problem := unpack(path, folder):
                raise UserError(problem)
            complete.touch()
    inside = list_folders(folder)
    has_files = any(
        child.is_file() and not child.name.startswith(".") for child in folder.iterdir()
    )
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
        matches = [child for child in list_folders(folder) if child.name.lower() == part.lower()]
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


def match_splits(named: Mapping[Any, T]) -> dict[str, T]:
    """Return what is named after a split, in any case, by ``train``, ``validation`` and ``test``.

    >>> match_splits({"Dev": 1, "training": 2, "extra": 3})
    {'train': 2, 'validation': 1}
    """
    by_name = {str(name).lower(): value for name, value in named.items()}
    return {
        split: next(by_name[alias] for alias in aliases if alias in by_name)
        for split, aliases in SPLIT_NAMES.items()
        if not by_name.keys().isdisjoint(aliases)
    }


def find_splits(
    found: Inventory, layout: Layout = "auto", ask: bool = True
) -> tuple[Path, Path | None] | None:
    """Return the training folder and the held-out one; None if the folders are no splits.

    Folders without images do not count.

    Args:
        found: The files under the root.
        layout: ``data.layout``.
        ask: Raise an error for an ambiguous layout; otherwise its folders are no splits.

    Raises:
        UserError: The folders may be splits or classes, or the splits are one level deeper.
    """
    if layout == "classes":
        return None
    root = found.folder
    children = _list_children(found)
    names = sorted(children[()])
    roles = _guess_splits(names)
    if layout == "splits":
        return _choose_splits(root, roles)
    are_split_names = all(name.lower() in ALL_NAMES for name in names)
    if "train" in roles.values() and are_split_names:
        if ask:
            _check_deeper_splits(root, children)
        return _choose_splits(root, roles)
    if not ask:
        return None
    shared = sorted(set.intersection(*(children[(name,)] for name in names))) if names else []
    if len(names) > 1 and len(shared) > 1 and SPLIT_NAMES.keys().isdisjoint(roles.values()):
        raise UserError(
            f"data.root={root} has an ambiguous layout: {join_names(names)} contain the same "
            f"folders {join_names(shared)}. Set data.root to one of them, or data.layout=classes "
            f"to use {join_names(names)} as classes."
        )
    _check_deeper_splits(root, children)
    if any(roles.values()):
        _ask_for_layout(root, names, roles)
    return None


def _ask_for_layout(root: Path, names: list[str], roles: Mapping[str, str | None]) -> None:
    """Raise UserError with the layouts that the folders may have."""
    train = next(iter(_order(roles, "train")), None)
    held_out = next(iter([*_order(roles, "test"), *_order(roles, "validation")]), None)
    options = ["data.layout=classes to use every folder as a class"]
    if train and held_out:
        options.insert(0, f"data.layout=splits to train on {train} and hold out {held_out}")
    elif train:
        options.insert(0, f"data.layout=splits to train on {train} only")
    else:
        options.insert(0, "data.root to the folder to train on")
    raise UserError(
        f"data.root={root} has an ambiguous layout: {join_names(names)} may be splits or classes. "
        f"Set {', or '.join(options)}."
    )


def _choose_splits(root: Path, roles: Mapping[str, str | None]) -> tuple[Path, Path | None]:
    """Return the folders of the training split and of the first held-out one.

    Raises:
        UserError: No folder is for training, or several could be.
    """
    train = _order(roles, "train")
    held_out = [*_order(roles, "test"), *_order(roles, "validation")]
    # "train" is preferred to "training", but not "train2016" to "train2017".
    if not train or (len(train) > 1 and train[0].lower() not in TRAIN_NAMES):
        raise UserError(
            f"data.layout=splits: the folders of {root} are {join_names([*roles]) or 'none'}. "
            "Name one of them train, and one test or val."
        )
    chosen = [train[0], *held_out[:1]]
    for name in chosen:
        # Raises UserError if two folders differ only in case.
        find_folder(root, name)
    return root / train[0], root / held_out[0] if held_out else None


def _order(roles: Mapping[str, str | None], split: str) -> list[str]:
    """List the folders of a split: those with an exact name first, by preference."""
    aliases = SPLIT_NAMES[split]

    def rank(name: str) -> tuple[int, str]:
        exact = name.lower() in aliases
        return (aliases.index(name.lower()) if exact else len(aliases)), name

    return sorted((name for name, role in roles.items() if role == split), key=rank)


def _guess_splits(names: Sequence[str]) -> dict[str, str | None]:
    """Return the split that each of these folders may be, ``OTHER_PART`` or None.

    Names of two letters, such as tr and te, count only if all folders have one.
    """
    short = {name: SHORT_NAMES.get(name.lower()) for name in names}
    if len(names) > 1 and all(short.values()):
        return short
    return {name: guess_split(name) for name in names}


def guess_split(name: str) -> str | None:
    """Return the split whose name is a word of a folder's name, such as train2017 or x_val-256.

    The short names val and dev count as whole words only: a device is no split.
    """
    if exact := next((split for split, each in SPLIT_NAMES.items() if name.lower() in each), None):
        return exact
    words = _split_into_words(name)
    for split, aliases in SPLIT_NAMES.items():
        if any(_is_word_of_split(word, aliases) for word in words):
            return split
        # joined words: hold-out, held_out
        if any(re.match(SPLIT_STEMS[split], word) for word in [*words, "".join(words)]):
            return split
    return OTHER_PART if any(OTHER_PARTS.fullmatch(word) for word in words) else None


def _split_into_words(name: str) -> list[str]:
    """Split a name at digits, punctuation and capital letters.

    >>> _split_into_words("imagesVal-x2017"), _split_into_words("MY_Test")
    (['images', 'val', 'x'], ['my', 'test'])
    """
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    return re.findall(r"[^\W\d_]+", separated.lower())


@lru_cache(maxsize=10_000)
def _is_word_of_split(word: str, aliases: tuple[str, ...]) -> bool:
    """Return whether a word is a name of a split, is derived from one or abbreviates one."""
    for alias in aliases:
        if re.fullmatch(rf"{alias}(s|(sub)?sets?|data|im(g|age)s?|split|part|fold)?", word):
            return True
        if len(alias) > 3 and (word.startswith(alias) or word.endswith(alias)):
            return True
        # abbreviations by consonants, such as trn for training
        consonants = iter(alias)
        is_abbreviation = len(word) > 2 and word[0] == alias[0] and not set("aeiouy") & set(word)
        if is_abbreviation and all(letter in consonants for letter in word):
            return True
    return False


def _list_children(found: Inventory) -> dict[tuple[str, ...], set[str]]:
    """Return the names of subfolders with images, at any depth, by the parts of their parent."""
    children: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for folder in found.folders_with_images:
        parts = tuple(folder.split(os.sep)) if folder else ()
        for depth, name in enumerate(parts):
            children[parts[:depth]].add(name)
    return children


def _check_deeper_splits(root: Path, children: Mapping[tuple[str, ...], set[str]]) -> None:
    """Raise UserError if a subfolder of the training images contains a folder of held-out ones.

    Names that only may be those of splits count if there is one of each kind.
    """
    for parts in sorted(children):
        if not parts or parts[0].lower() in HELD_OUT_NAMES:
            continue
        roles = _guess_splits(sorted(children[parts]))
        held_out = [*_order(roles, "test"), *_order(roles, "validation")]
        train = _order(roles, "train")
        if not train:
            held_out = [name for name in held_out if name.lower() in HELD_OUT_NAMES]
        if not held_out:
            continue
        inside = root.joinpath(*parts)
        if train:
            raise UserError(
                f"data.root={root} contains splits in a subfolder: "
                f"{join_names([*train, *held_out])} in {inside}. Set data.root={inside}, "
                "or data.layout=classes to train on the images of all folders."
            )
        raise UserError(
            f"data.root={root} contains a folder that may be a held-out split: "
            f"{inside / held_out[0]}. Move it to {root / held_out[0]}, or set data.layout=classes "
            "to train on its images."
        )


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


def list_folders(root: Path) -> list[Path]:
    """List the subfolders of a folder by name, without hidden ones."""
    with os.scandir(root) as entries:
        names = [
            entry.name for entry in entries if not is_hidden_folder(entry.name) and entry.is_dir()
        ]
    return [root / name for name in sorted(names)]
