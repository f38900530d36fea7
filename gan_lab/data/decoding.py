"""Decode image files: once into the cache, or on the fly if the cache would be too large."""

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
from gan_lab.data.image_files import join_names, run_in_threads
from gan_lab.data.image_reader import (
    Frame,
    UnreadableError,
    WhiteLevels,
    infer_white_level,
    inspect_image,
    read_framed,
    silence_pillow,
)
from gan_lab.data.split import PixelArray
from gan_lab.utils.errors import UserError

MIN_HELD_OUT_IMAGES = 4
MAX_HELD_OUT_SHARE, MAX_HELD_OUT_IMAGES = 0.1, 2000

# The files of one row: one, or the two of a pair.
Item = tuple[Path, ...]
# Reads an Item in the format of a Frame as uint8 [C, H, W], or raises UnreadableError.
Reader = Callable[..., np.ndarray]
FIT_DESCRIPTIONS = {"crop": "center-cropped", "pad": "letterboxed", "stretch": "stretched"}


def read_file(
    item: Item, frame: Frame, white_levels: WhiteLevels | None = None, crop: int | None = None
) -> np.ndarray:
    """Read an item of a single file, see ``image_reader.read_framed``."""
    return read_framed(item[0], frame, crop, white_levels)


@dataclass(frozen=True)
class LazyImageFiles:
    """Rows that are decoded on the fly, in the workers of the DataLoader."""

    items: Sequence[Item]
    read: Reader

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        with silence_pillow():
            return np.stack([self.read(self.items[row]) for row in rows])


@dataclass(frozen=True)
class DecodedItems:
    """The readable items of a list: their pixels, and their indices in the list."""

    pixels: PixelArray
    indices: np.ndarray
    fingerprint: str
    lazy: bool
    frame: Frame
    # How some of the images were converted, for the user.
    about: str = ""

    def split(
        self, train_items: int, labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return training and held-out rows: the first ``train_items`` items are training data.

        If there are no other items, ``split_train_test`` holds some out.
        """
        rows = np.arange(len(self.indices))
        is_held_out = self.indices >= train_items
        if not is_held_out.any():
            return split_train_test(len(rows), labels)
        return rows[~is_held_out], rows[is_held_out]

    @property
    def note(self) -> str:
        """The end of the line that describes the data set to the user."""
        if not self.lazy:
            return self.about
        return f"{self.about} (decoded on the fly, larger than data.cache_gb; see data.workers)"


def open_items(
    cfg: DataConfig,
    items: Sequence[Item],
    name: str,
    read: Reader = read_file,
    transform: str = "",
    images: int = 1,
    as_files: bool = False,
    cache: Path = Path("data"),
) -> DecodedItems:
    """Decode every item into the cache, or on the fly if all take more than ``cfg.cache_gb``.

    The first start decodes every file once, so that unreadable ones are known before training:
    they are skipped with a warning.

    Args:
        cfg: The data configuration.
        items: The files of each row.
        name: The name of the data set, for the cache.
        read: Reads an item.
        transform: Describes what ``read`` does beyond ``read_file``, for the cache key.
        images: Number of images that ``read`` stacks along the channels.
        as_files: Use gray images if most files are gray and ``data.channels`` is not set.
        cache: The folder of the cache.

    Raises:
        UserError: More than ``cfg.max_unreadable`` of the items are unreadable, or all of them.
    """
    height, width = cfg.shape
    frame = Frame(height, width, cfg.fit, cfg.channels == 1)
    auto = as_files and cfg.channels is None
    lazy = len(items) * images * 3 * height * width > cfg.cache_gb * 1e9
    key = f"{transform}/{frame}/{auto}/{lazy}/3/{hash_file_stats(items)}"
    arrays, fingerprint = decoded_once(
        cache,
        f"{name}-{cfg.size}{'-names' * lazy}",
        key,
        lambda: _decode(items, read, frame, images, auto, lazy),
    )
    _check_unreadable(cfg, [str(problem) for problem in arrays["unreadable"]], len(items))
    indices = np.asarray(arrays["places"])
    integer_white, float_white, gray, deep, reshaped, enlarged = arrays["_looks"].tolist()
    frame = replace(frame, gray=bool(gray))
    white_levels = None
    if integer_white or float_white:
        white_levels = WhiteLevels(integer_white, float_white)
    pixels: PixelArray
    if lazy:
        reader = partial(read, frame=frame, white_levels=white_levels)
        pixels = LazyImageFiles([items[index] for index in indices], reader)
        fingerprint = combine_fingerprints(fingerprint, transform, frame)
    else:
        pixels = arrays["images"]
    notes = []
    if reshaped and not transform:
        notes.append(f"{reshaped:,.0f} {FIT_DESCRIPTIONS[frame.fit]}")
    if enlarged:
        sides = "x".join(map(str, dict.fromkeys((height, width))))
        notes.append(f"{enlarged:,.0f} upsampled to {sides} pixels")
    if auto and gray:
        notes.append("gray, like most of the files")
    if deep:
        white = " and ".join(f"{level:g}" for level in (integer_white, float_white) if level)
        notes.append(f"{deep:,.0f} with more than 8 bits, white level {white}")
    about = f" ({'; '.join(notes)})" if notes else ""
    return DecodedItems(pixels, indices, fingerprint, lazy, frame, about)


def _decode(
    items: Sequence[Item], read: Reader, frame: Frame, images: int, auto: bool, lazy: bool
) -> Arrays:
    """Return the arrays of the cache.

    They contain no paths and no times, so that data can move: their hash is the fingerprint.
    """
    # The columns of ImageFacts.
    facts = np.zeros((len(items), 5))

    def inspect(row: int) -> None:
        facts[row] = np.max([inspect_image(path) for path in items[row]], axis=0)

    run_in_threads(inspect, len(items), f"inspecting {len(items):,} images")
    widths, heights, *peaks, grays = facts.T
    largest = facts[:, 2:4].max(axis=0)
    white_levels = WhiteLevels(*(infer_white_level(peak) if peak else 0.0 for peak in largest))
    frame = replace(frame, gray=frame.gray or (auto and 2 * grays.sum() > (widths > 0).sum()))
    decode = partial(read, frame=frame, white_levels=white_levels if any(white_levels) else None)
    shape = (images * frame.channels, frame.height, frame.width)
    pixels = None if lazy else np.empty((len(items), *shape), np.uint8)
    # SHA-256 of the files, which stands for the pixels if they are decoded on the fly.
    digests = np.zeros((len(items), 32), np.uint8)
    common_folder = os.path.commonpath([path.parent for item in items for path in item])

    def decode_row(row: int) -> str | None:
        try:
            read_pixels = decode(items[row])
        except UnreadableError as error:
            return (
                str(error).replace(f"{common_folder}{os.sep}", "") if common_folder else str(error)
            )
        if pixels is not None:
            pixels[row] = read_pixels
        else:
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in items[row])).digest()
            digests[row] = np.frombuffer(digest, np.uint8)
        return None

    problems = dict(run_in_threads(decode_row, len(items), f"decoding {len(items):,} images"))
    indices = np.array([row for row in range(len(items)) if row not in problems], dtype=np.int64)
    arrays = {
        "places": indices,
        "unreadable": np.array([problems[row] for row in sorted(problems)], dtype=np.str_),
    }
    if pixels is not None:
        arrays["images"] = pixels[indices] if problems else pixels
    else:
        arrays["files"] = digests
    is_deep = np.max(peaks, axis=0)
    is_smaller = (np.minimum(widths / frame.width, heights / frame.height) < 1) & (widths > 0)
    is_reshaped = widths * frame.height != heights * frame.width
    counts = [np.count_nonzero(flags) for flags in (is_deep, is_reshaped, is_smaller)]
    return arrays | {"_looks": np.array([*white_levels, frame.gray, *counts], dtype=np.float64)}


def _check_unreadable(cfg: DataConfig, problems: list[str], n: int) -> None:
    unreadable = f"{len(problems):,} of {n:,} images are unreadable: {join_names(problems)}"
    if len(problems) == n:
        raise UserError(f"{unreadable}. Convert them to PNG or JPEG.")
    if len(problems) > cfg.max_unreadable * n:
        enough = math.ceil(100 * len(problems) / n) / 100
        raise UserError(
            f"{unreadable}. This exceeds data.max_unreadable={cfg.max_unreadable:g}. Remove them, "
            f"or skip them with data.max_unreadable={enough:g}."
        )
    if problems:
        warnings.warn(f"skipping unreadable files: {unreadable}", stacklevel=3)


def hash_file_stats(items: Sequence[Item]) -> str:
    """Hash the path, size and modification time of files, to detect changes."""
    digest = hashlib.sha256()
    for item in items:
        for path in item:
            status = path.stat()
            line = f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def combine_fingerprints(*parts: object) -> str:
    """Combine values into one fingerprint of 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else str(part).encode())
    return digest.hexdigest()[:16]


def split_train_test(n: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Split n rows into training and held-out rows, stratified by label, independent of the seed.

    10% are held out: at most about 2,000, and at least 4 (two each for validation and test) or half
    of fewer than 8 rows. A class keeps at least one training image.

    Raises:
        UserError: There are fewer than 2 rows.
    """
    if n < 2:
        raise UserError(
            f"Too few images: {n}. At least 2 are needed, one for training and one held out."
        )
    share = min(MAX_HELD_OUT_SHARE, MAX_HELD_OUT_IMAGES / n)
    min_held_out = min(MIN_HELD_OUT_IMAGES, n // 2)
    rng = np.random.default_rng(0)
    classes = [np.arange(n)]
    if labels is not None:
        classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    orders = [rng.permutation(rows) for rows in classes]
    wanted = max(int(share * n), min_held_out)
    shares = [wanted * len(order) / n for order in orders]
    counts = [int(part) for part in shares]
    # Distribute the rest by largest remainder.
    by_remainder = sorted(range(len(orders)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[: wanted - sum(counts)]:
        counts[i] += 1
    # Never hold out the last image of a class.
    counts = [min(count, len(order) - 1) for order, count in zip(orders, counts, strict=True)]
    while sum(counts) < min_held_out:
        left = [len(order) - count for order, count in zip(orders, counts, strict=True)]
        counts[left.index(max(left))] += 1
    held_out = [order[:count] for order, count in zip(orders, counts, strict=True)]
    test = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(n), test), test
