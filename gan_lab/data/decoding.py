"""From image files to rows of pixels: decoded once into the cache, or, where that would be too large, as they are read."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.data.image_files import in_threads, join_names
from gan_lab.data.reading import UnreadableError, Whites, look, quiet, square, white_level
from gan_lab.data.split import PixelArray

LEAST = 4  # images that are held out, where there are so many

Item = tuple[Path, ...]  # the files of one row: one, or the two of a pair
# of an Item uint8 [C, H, W], or UnreadableError; ``whites`` is that of ``reading.open_image``
Reader = Callable[..., np.ndarray]


def read_square(item: Item, size: int, crop: int | None = None, whites: Whites | None = None) -> np.ndarray:
    """The reader of single files: ``reading.square`` of the first."""
    return square(item[0], size, crop, whites)


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
    about: str = ""  # what was done with some of them

    def parts(self, first: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows for training and rows held out: the ``first`` items are for training, or ``split`` decides."""
        rows, held = np.arange(len(self.places)), self.places >= first
        return (rows[~held], rows[held]) if held.any() else split(len(rows), labels)

    @property
    def note(self) -> str:
        """For the line that tells the user which data are used."""
        return self.about + (
            " (more than data.cache_gb: decoded as they are read, see data.workers)" if self.lazy else ""
        )


def open_items(
    cfg: DataConfig, items: Sequence[Item], read: Reader, transform: str, name: str, channels: int = 3,
    cache: Path = Path("data"),
) -> Opened:  # fmt: skip
    """Decode every item, now or, if all of them take more than ``cfg.cache_gb``, when it is read.

    Every file is decoded once at the first start, so that the unreadable ones are known before the training: they are
    named in a warning and left out. ``transform`` says in words what ``read`` does with a file. Raises ValueError if
    more than ``cfg.max_unreadable`` of the items cannot be read, or none can.
    """
    shape = (channels, cfg.size, cfg.size)
    lazy = len(items) * channels * cfg.size**2 > cfg.cache_gb * 1e9
    key = f"{transform}/{shape}/{lazy}/2/{listing(items)}"
    arrays, fingerprint = decoded_once(
        cache, f"{name}-{cfg.size}{'-names' * lazy}", key, lambda: _decode(items, read, shape, lazy)
    )
    _bearable(cfg, [str(words) for words in arrays["unreadable"]], len(items))
    places = np.asarray(arrays["places"])
    whole, real, deep, cut, enlarged = arrays["_looks"].tolist()
    whites = Whites(whole, real) if whole or real else None
    pixels: PixelArray = Files([items[place] for place in places], _with(read, whites)) if lazy else arrays["images"]
    fingerprint = combine_fingerprints(fingerprint, transform, shape) if lazy else fingerprint
    white = " and ".join(f"{level:g}" for level in (whole, real) if level)
    notes = [
        f"{cut:,.0f} cut to their middle" if cut and transform == "square" else "",
        f"{enlarged:,.0f} enlarged to {cfg.size} pixels" if enlarged else "",
        f"{deep:,.0f} of more than 8 bits: in all of them {white} is white" if deep else "",
    ]
    about = "; ".join(words for words in notes if words)
    return Opened(pixels, places, fingerprint, lazy, f" ({about})" if about else "")


def _with(read: Reader, whites: Whites | None) -> Reader:
    return partial(read, whites=whites) if whites else read


def _decode(items: Sequence[Item], read: Reader, shape: tuple[int, ...], lazy: bool) -> Arrays:
    """The arrays of the cache. They say nothing of places and times, so that data may move: their hash is the fingerprint."""
    images = None if lazy else np.empty((len(items), *shape), np.uint8)
    digests = np.zeros((len(items), 32), np.uint8)  # of the files, where they are decoded later
    above = os.path.commonpath([path.parent for item in items for path in item])
    looks = np.zeros((len(items), 4))  # width, height, largest levels

    def first(row: int) -> None:
        looks[row] = np.max([look(path) for path in items[row]], axis=0)

    in_threads(first, len(items), f"looking at {len(items):,} images")
    widths, heights, *levels = looks.T
    whites = Whites(*(white_level(level) if level else 0.0 for level in looks[:, 2:].max(axis=0)))
    decode = _with(read, whites if any(whites) else None)

    def one(row: int) -> str | None:
        try:
            pixels = decode(items[row])
        except UnreadableError as error:
            return str(error).replace(f"{above}{os.sep}", "") if above else str(error)
        if images is not None:
            images[row] = pixels
        else:
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in items[row])).digest()
            digests[row] = np.frombuffer(digest, np.uint8)
        return None

    bad = dict(in_threads(one, len(items), f"decoding {len(items):,} images"))
    places = np.array([row for row in range(len(items)) if row not in bad], dtype=np.int64)
    arrays = {"places": places, "unreadable": np.array([bad[row] for row in sorted(bad)], dtype=np.str_)}
    if images is not None:
        arrays["images"] = images[places] if bad else images
    else:
        arrays["files"] = digests
    smaller = (np.minimum(widths, heights) < min(shape[1:])) & (widths > 0)
    counts = [np.count_nonzero(part) for part in (np.max(levels, axis=0), widths != heights, smaller)]
    return arrays | {"_looks": np.array([*whites, *counts], dtype=np.float64)}


def _bearable(cfg: DataConfig, bad: list[str], n: int) -> None:
    words = f"{len(bad):,} of {n:,} images cannot be read ({join_names(bad)})"
    if len(bad) == n:
        raise ValueError(words)
    if len(bad) > cfg.max_unreadable * n:
        enough = math.ceil(100 * len(bad) / n) / 100
        raise ValueError(
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
                f"{path.absolute()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
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
        raise ValueError(f"{n} image is too few: one is held out, and at least one is trained on")
    share = min(0.1, 2000 / n)
    rng = np.random.default_rng(0)
    classes = [np.arange(n)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    orders = [rng.permutation(rows) for rows in classes]
    wanted = max(int(share * n), min(LEAST, n // 2))
    shares = [wanted * len(order) / n for order in orders]
    counts = [int(part) for part in shares]
    # by the largest remainder; a class never gives its last image
    for i in sorted(range(len(orders)), key=lambda i: counts[i] - shares[i])[: wanted - sum(counts)]:
        counts[i] += 1
    counts = [min(count, len(order) - 1) for order, count in zip(orders, counts, strict=True)]
    while sum(counts) < min(LEAST, n // 2):
        left = [len(order) - count for order, count in zip(orders, counts, strict=True)]
        counts[left.index(max(left))] += 1
    test = np.sort(np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)]))
    return np.setdiff1d(np.arange(n), test), test
