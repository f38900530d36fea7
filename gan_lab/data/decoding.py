"""From image files to rows of pixels: decoded once into the cache, or, where that would be too large, as they are read."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.data.image_files import in_threads, join_names
from gan_lab.data.image_reader import (
    Frame,
    UnreadableError,
    Whites,
    framed,
    look,
    quiet,
    white_level,
)
from gan_lab.data.split import PixelArray
from gan_lab.utils.errors import UserError

LEAST = 4  # images that are held out, where there are so many

Item = tuple[Path, ...]  # the files of one row: one, or the two of a pair
# of an Item and a Frame uint8 [C, H, W], or UnreadableError; ``whites`` is that of ``reading.open_image``
Reader = Callable[..., np.ndarray]
DONE = {
    "crop": "cut to their middle",
    "pad": "filled up at their edges",
    "stretch": "stretched",
}  # to the frame's shape


def read_file(
    item: Item, frame: Frame, whites: Whites | None = None, crop: int | None = None
) -> np.ndarray:
    """The reader of single files: ``reading.framed`` of the first."""
    return framed(item[0], frame, crop, whites)


@dataclass(frozen=True)
class Files:
    """Rows that are decoded as they are read, in the loader's workers."""

    items: Sequence[Item]
    read: Reader

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        with quiet():
            return np.stack([self.read(self.items[row]) for row in rows])


@dataclass(frozen=True)
class Opened:
    """The readable ones of a list of items: their pixels, and their places in the list."""

    pixels: PixelArray
    places: np.ndarray
    fingerprint: str
    lazy: bool
    frame: Frame
    about: str = ""  # what was done with some of them

    def parts(self, first: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows for training and rows held out: the ``first`` items are for training, or ``split`` decides."""
        rows, held = np.arange(len(self.places)), self.places >= first
        return (rows[~held], rows[held]) if held.any() else split(len(rows), labels)

    @property
    def note(self) -> str:
        """For the line that tells the user which data are used."""
        return self.about + (
            " (more than data.cache_gb: decoded as they are read, see data.workers)"
            if self.lazy
            else ""
        )


def open_items(
    cfg: DataConfig, items: Sequence[Item], name: str, read: Reader = read_file, transform: str = "", images: int = 1,
    as_files: bool = False, cache: Path = Path("data"),
) -> Opened:  # fmt: skip
    """Decode every item, now or, if all of them take more than ``cfg.cache_gb``, when it is read.

    Every file is decoded once at the first start, so that the unreadable ones are known before the training: they are
    named in a warning and left out. ``read`` makes ``images`` images of an item, one above the other in its channels;
    ``transform`` says in words what else it does. ``as_files``: they are gray where most files are and ``data.channels``
    does not say. Raises UserError if more than ``cfg.max_unreadable`` of the items cannot be read, or none can.
    """
    height, width = cfg.shape
    frame = Frame(height, width, cfg.fit, cfg.channels == 1)
    auto = as_files and cfg.channels is None
    lazy = len(items) * images * 3 * height * width > cfg.cache_gb * 1e9
    key = f"{transform}/{frame}/{auto}/{lazy}/3/{listing(items)}"
    arrays, fingerprint = decoded_once(
        cache,
        f"{name}-{cfg.size}{'-names' * lazy}",
        key,
        lambda: _decode(items, read, frame, images, auto, lazy),
    )
    _bearable(cfg, [str(words) for words in arrays["unreadable"]], len(items))
    places = np.asarray(arrays["places"])
    whole, real, gray, deep, cut, enlarged = arrays["_looks"].tolist()
    frame = replace(frame, gray=bool(gray))
    whites = Whites(whole, real) if whole or real else None
    reader = partial(read, frame=frame, whites=whites)
    pixels: PixelArray = (
        Files([items[place] for place in places], reader) if lazy else arrays["images"]
    )
    fingerprint = combine_fingerprints(fingerprint, transform, frame) if lazy else fingerprint
    white = " and ".join(f"{level:g}" for level in (whole, real) if level)
    notes = [
        f"{cut:,.0f} {DONE[frame.fit]}" if cut and not transform else "",
        f"{enlarged:,.0f} enlarged to {'x'.join(map(str, dict.fromkeys((height, width))))} pixels"
        if enlarged
        else "",
        "gray, as most of the files are" if auto and gray else "",
        f"{deep:,.0f} of more than 8 bits: in all of them {white} is white" if deep else "",
    ]
    about = "; ".join(words for words in notes if words)
    return Opened(pixels, places, fingerprint, lazy, frame, f" ({about})" if about else "")


def _decode(
    items: Sequence[Item], read: Reader, frame: Frame, images: int, auto: bool, lazy: bool
) -> Arrays:
    """The arrays of the cache. They say nothing of places and times, so that data may move: their hash is the fingerprint."""
    looks = np.zeros((len(items), 5))  # width, height, largest levels, gray

    def first(row: int) -> None:
        looks[row] = np.max([look(path) for path in items[row]], axis=0)

    in_threads(first, len(items), f"looking at {len(items):,} images")
    widths, heights, *levels, grays = looks.T
    whites = Whites(*(white_level(level) if level else 0.0 for level in looks[:, 2:4].max(axis=0)))
    frame = replace(frame, gray=frame.gray or (auto and 2 * grays.sum() > (widths > 0).sum()))
    decode = partial(read, frame=frame, whites=whites if any(whites) else None)
    shape = (images * frame.channels, frame.height, frame.width)
    pixels = None if lazy else np.empty((len(items), *shape), np.uint8)
    digests = np.zeros((len(items), 32), np.uint8)  # of the files, where they are decoded later
    above = os.path.commonpath([path.parent for item in items for path in item])

    def one(row: int) -> str | None:
        try:
            read_pixels = decode(items[row])
        except UnreadableError as error:
            return str(error).replace(f"{above}{os.sep}", "") if above else str(error)
        if pixels is not None:
            pixels[row] = read_pixels
        else:
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in items[row])).digest()
            digests[row] = np.frombuffer(digest, np.uint8)
        return None

    bad = dict(in_threads(one, len(items), f"decoding {len(items):,} images"))
    places = np.array([row for row in range(len(items)) if row not in bad], dtype=np.int64)
    arrays = {
        "places": places,
        "unreadable": np.array([bad[row] for row in sorted(bad)], dtype=np.str_),
    }
    if pixels is not None:
        arrays["images"] = pixels[places] if bad else pixels
    else:
        arrays["files"] = digests
    smaller = (np.minimum(widths / frame.width, heights / frame.height) < 1) & (widths > 0)
    of_other_shape = widths * frame.height != heights * frame.width
    counts = [np.count_nonzero(part) for part in (np.max(levels, axis=0), of_other_shape, smaller)]
    return arrays | {"_looks": np.array([*whites, frame.gray, *counts], dtype=np.float64)}


def _bearable(cfg: DataConfig, bad: list[str], n: int) -> None:
    words = f"{len(bad):,} of {n:,} images cannot be read ({join_names(bad)})"
    if len(bad) == n:
        raise UserError(words)
    if len(bad) > cfg.max_unreadable * n:
        enough = math.ceil(100 * len(bad) / n) / 100
        raise UserError(
            f"{words}: more than data.max_unreadable={cfg.max_unreadable:g} of them; remove them, or go on without them by "
            f"data.max_unreadable={enough:g}"
        )
    if bad:
        warnings.warn(f"{words}: left out", stacklevel=3)


def listing(items: Sequence[Item]) -> str:
    """A hash of where files lie, how large and how old they are: whether they may have changed."""
    digest = hashlib.sha256()
    for item in items:
        for path in item:
            about = path.stat()
            digest.update(
                f"{path.absolute()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
    return digest.hexdigest()


def combine_fingerprints(*parts: object) -> str:
    """One fingerprint of several things, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else str(part).encode())
    return digest.hexdigest()[:16]


def split(n: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows held out, chosen once and for all: a tenth, where there are labels of each class.

    Of classes too small for that, every tenth image of them all. At most about 2,000 are held out, and at least four,
    two to choose by and two to report, or half of fewer than eight rows; a class of one image is trained on. Raises
    ValueError for fewer than two rows.
    """
    if n < 2:
        raise UserError(f"{n} image is too few: one is held out, and at least one is trained on")
    share = min(0.1, 2000 / n)
    rng = np.random.default_rng(0)
    classes = (
        [np.arange(n)]
        if labels is None
        else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    )
    orders = [rng.permutation(rows) for rows in classes]
    wanted = max(int(share * n), min(LEAST, n // 2))
    shares = [wanted * len(order) / n for order in orders]
    counts = [int(part) for part in shares]
    # by the largest remainder; a class never gives its last image
    for i in sorted(range(len(orders)), key=lambda i: counts[i] - shares[i])[
        : wanted - sum(counts)
    ]:
        counts[i] += 1
    counts = [min(count, len(order) - 1) for order, count in zip(orders, counts, strict=True)]
    while sum(counts) < min(LEAST, n // 2):
        left = [len(order) - count for order, count in zip(orders, counts, strict=True)]
        counts[left.index(max(left))] += 1
    test = np.sort(
        np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)])
    )
    return np.setdiff1d(np.arange(n), test), test
