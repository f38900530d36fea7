"""Anyone's image files: found under a folder, with a count of what is left out."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lab.data.cache import cache_folder
from gan_lab.data.image_reader import quiet
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import MARKER
from gan_lab.utils.track import track

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".jp2",
        ".ico",
    ]
)
NOT_READ = frozenset(  # pictures too
    [
        ".heic",
        ".heif",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".raf",
        ".pef",
        ".srw",
        ".raw",
        ".psd",
        ".psb",
        ".xcf",
        ".svg",
        ".eps",
        ".ai",
        ".jxl",
        ".exr",
        ".hdr",
    ]
)
STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
)  # of pictures, whatever their names
MANY = 500  # files that take long enough for a progress line


def find(folder: Path, apart_from: Path | None = None) -> list[Path]:
    """Every file with the name of an image, at any depth, sorted; a warning counts what else may be one.

    Hidden ones are left out, and so are runs of the lab, its decoded cache and the folder ``apart_from``. Links are
    followed, each folder is entered once: a link to a folder above ends there.
    """
    left_out: Counter[str] = Counter()
    every = list(_every(folder, apart_from, left_out))
    for path in every:
        ending = path.suffix.lower()
        if ending in NOT_READ:
            left_out[f"{ending} (not read: convert to PNG or JPEG)"] += 1
        elif not ending and _starts_as_picture(path):
            left_out["without an ending (add .png or .jpg)"] += 1
    if left_out:
        said = ", ".join(f"{count:,} {what}" for what, count in sorted(left_out.items()))
        warnings.warn(f"left out of {folder}: {said}", stacklevel=2)
    return sorted(path for path in every if path.suffix.lower() in SUFFIXES)


def given(source: Path, apart_from: Path | None = None) -> list[Path]:
    """An image file, or those that ``find`` finds in a folder. Raises UserError if there is none."""
    paths = [source] if source.is_file() else find(source, apart_from)
    if not paths:
        raise UserError(f"there is no image in {source}: {seen(source)}")
    return paths


def seen(folder: Path) -> str:
    """Count the files under a folder by their extension, as '12 .txt, 1 without ending'."""
    endings = Counter(
        path.suffix.lower() or "without ending" for path in _every(folder, None, Counter())
    )
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:12]
    return ", ".join(f"{count:,} {ending}" for ending, count in most) or "no files at all"


def _every(folder: Path, apart_from: Path | None, left_out: Counter[str]) -> Iterator[Path]:
    cache = cache_folder(folder)
    apart = (
        apart_from,
        cache if next(cache.glob(".*.lock"), None) else None,
    )  # a class may be called cache too
    entered = {_identity(other) for other in apart if other and other.is_dir()}
    waiting = [folder]

    def closed(error: OSError) -> None:
        if Path(error.filename) != folder or folder.is_dir():
            left_out[f"folder that cannot be entered ({Path(error.filename).name})"] += 1

    while waiting:  # links last, so that a file is known by its own folder's name
        for place, folders, names in os.walk(waiting.pop(0), onerror=closed):
            here = Path(place)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and name != "__MACOSX"
            )
            if _identity(here) in entered or (
                here != folder and _is_the_labs(here, folders, names)
            ):
                folders.clear()
                continue
            entered.add(_identity(here))
            waiting += [here / name for name in folders if (here / name).is_symlink()]
            for path in (here / name for name in names if not name.startswith(".")):
                if path.is_file():
                    yield path
                elif path.is_symlink() and path.suffix.lower() in SUFFIXES | NOT_READ:
                    left_out["links that lead nowhere"] += 1


def _is_the_labs(here: Path, folders: list[str], names: list[str]) -> bool:
    """True if runs are kept here, or this is one: their grids are not data."""
    return MARKER in names or ("config.yaml" in names and "checkpoints" in folders)


def _starts_as_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(STARTS)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def in_threads(
    work: Callable[[int], str | None], n: int, description: str
) -> list[tuple[int, str]]:
    """Call ``work`` for 0..n-1, and return those for which it has something to say, with what it says."""

    def share(numbers: range) -> list[tuple[int, str]]:
        said = ((number, work(number)) for number in numbers)
        return [(number, words) for number, words in said if words is not None]

    shares = [range(i, min(i + 64, n)) for i in range(0, n, 64)]
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        with quiet():
            done: Iterable[list[tuple[int, str]]] = pool.map(share, shares)
            line = track(done, description, len(shares), shown=len(shares) >= MANY // 64)
            return [one for said in line for one in said]
    finally:
        pool.shutdown(cancel_futures=True)


def survey(root: Path) -> dict[str, str]:
    """Survey a folder: files by extension, and of the images the modes, the sizes and which have no readable
    header. The pixels themselves are not looked at."""
    paths = find(root)
    modes: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []

    def look(number: int) -> str | None:
        try:
            with Image.open(paths[number]) as image:
                modes[image.mode] += 1
                sizes.append(image.size)
        except Exception as error:  # as in opened()
            return type(error).__name__
        return None

    bad = in_threads(look, len(paths), "looking")
    facts = {"images": f"{len(paths):,}", "files": seen(root)}
    if sizes:
        facts["modes"] = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        for name, sides in zip(("widths", "heights"), zip(*sizes, strict=True), strict=True):
            facts[name] = f"{min(sides)} to {max(sides)}, median {int(np.median(sides))}"
    if bad:
        facts["unreadable"] = join_names(
            [f"{paths[number].name} ({reason})" for number, reason in bad]
        )
    return facts


def join_names(names: list[str], most: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
