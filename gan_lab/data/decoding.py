"""Decode image files: once into the cache, or on the fly if the cache would be too large."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data.cache import USER_DATA_CACHE, Arrays, decoded_once, hash_file_stats
from gan_lab.data.image_files import join_and_count, run_in_threads
from gan_lab.data.image_reader import (
    FIT_DESCRIPTIONS,
    Frame,
    Levels,
    UnreadableError,
    read_framed,
    silence_pillow,
)
from gan_lab.data.levels import LEVEL_KINDS, choose_levels, find_rows, inspect_files
from gan_lab.data.split import PixelArray, group_rows
from gan_lab.utils.errors import UserError

MIN_HELD_OUT_IMAGES = 4
MAX_HELD_OUT_SHARE, MAX_HELD_OUT_IMAGES = 0.1, 2000

# The files of one row: one, or the two of a pair. Strings are faster than paths for large sets.
Item = tuple[str | Path, ...]
# Reads an Item in the format of a Frame as uint8 [C, H, W], or raises UnreadableError.
Reader = Callable[..., np.ndarray]
# Of 255: an image whose values span less than this is flat.
MIN_SPAN = 2


def read_file(
    item: Item, frame: Frame, levels: Levels | None = None, crop: int | None = None
) -> np.ndarray:
    """Read an item of a single file, see ``image_reader.read_framed``."""
    return read_framed(item[0], frame, crop, levels)


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
    # Names of the unreadable files.
    unreadable: list[str]
    # Equal images have equal digests: uint64 of the pixels, or of the files if they are lazy.
    digests: np.ndarray
    # See ``DataConfig.levels``; empty if no image has more than 8 bits.
    levels: tuple[float, ...] = ()
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

    def describe_copies(
        self, train: np.ndarray, held_out: np.ndarray, labels: np.ndarray | None = None
    ) -> str:
        """Report exact copies among training and held-out images, and among classes."""
        copies = describe_copies(self.digests[train], self.digests[held_out])
        return copies + describe_conflicts(self.digests, labels)


def open_items(
    cfg: DataConfig,
    items: Sequence[Item],
    name: str,
    read: Reader = read_file,
    transform: str = "",
    images: int = 1,
    as_files: bool = False,
    cache: Path = USER_DATA_CACHE,
    states: Mapping[str, str] | None = None,
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
        states: What ``cache.describe_states`` returned for the files, if it is known.

    Raises:
        UserError: More than ``cfg.max_unreadable`` of the items are unreadable, or all of them.
    """
    height, width = cfg.shape
    frame = Frame(height, width, cfg.fit, cfg.channels == 1)
    auto = as_files and cfg.channels is None
    lazy = len(items) * images * 3 * height * width > cfg.cache_gb * 1e9
    files = [path for item in items for path in item]
    stats = hash_file_stats(files, states)
    # Inspected before they are decoded, since all images have one scale.
    inspected, _ = decoded_once(
        cache, "inspected", f"2/{stats}", lambda: {"_facts": inspect_files(files)}
    )
    facts = np.asarray(inspected["_facts"])
    levels, is_inferred = _choose_levels(cfg, files, facts)
    _check_colors(cfg, facts)
    # An item is as large as its largest file.
    widths, heights, grays = facts[:, :3].reshape(len(items), -1, 3).max(axis=1).T
    if auto:
        # A Python bool: the text of the frame is part of keys and fingerprints.
        frame = replace(frame, gray=bool(2 * grays.sum() > (widths > 0).sum()))
    decode = partial(read, frame=frame, levels=levels)
    arrays, fingerprint = decoded_once(
        cache,
        f"{name}-{cfg.size}{'-names' * lazy}",
        f"{transform}/{frame}/{levels}/{lazy}/4/{stats}",
        lambda: _decode(items, decode, None if lazy else (images * frame.channels, height, width)),
    )
    problems = [str(problem) for problem in arrays["unreadable"]]
    _check_unreadable(cfg, problems, len(items))
    indices = np.asarray(arrays["places"])
    pixels: PixelArray
    if lazy:
        pixels = LazyImageFiles([items[index] for index in indices], decode)
        # Inferred levels depend on the files only.
        chosen = () if is_inferred else (levels,)
        fingerprint = combine_fingerprints(fingerprint, transform, frame, *chosen)
    else:
        pixels = arrays["images"]
    notes = []
    reshaped = np.count_nonzero(widths * height != heights * width)
    if reshaped and not transform:
        notes.append(f"{reshaped:,} {FIT_DESCRIPTIONS[frame.fit]}")
    enlarged = np.count_nonzero((np.minimum(widths / width, heights / height) < 1) & (widths > 0))
    if enlarged:
        sides = "x".join(map(str, dict.fromkeys((height, width))))
        notes.append(f"{enlarged:,} upsampled to {sides} pixels")
    if auto and frame.gray:
        notes.append("gray, like most of the files")
    if levels:
        deep = np.count_nonzero(facts[:, 3])
        notes.append(f"{deep:,} with more than 8 bits, black to white: {levels}")
    if deep_colors := np.count_nonzero(facts[:, 6]):
        notes.append(f"{deep_colors:,} in color with 16 bits, of which the upper 8 are read")
    if several := np.count_nonzero(facts[:, 7]):
        notes.append(f"{several:,} with several frames or pages, of which the first is used")
    about = f" ({'; '.join(notes)})" if notes else ""
    names = [problem.partition(": ")[0] for problem in problems]
    digests = np.asarray(arrays["_digests"])[:, 0][indices]
    return DecodedItems(
        pixels, indices, fingerprint, lazy, frame, names, digests, tuple(levels or ()), about
    )


def _choose_levels(
    cfg: DataConfig, files: Sequence[str | Path], facts: np.ndarray
) -> tuple[Levels | None, bool]:
    """Return the black and white levels of images with more than 8 bits, and if they are inferred.

    Raises:
        UserError: The range of the values is ambiguous, or most images would be flat.
    """
    remedy = "Set data.levels=[0,1], or the black and white level of your images"
    levels, is_inferred = choose_levels(
        Levels.parse(cfg.levels), facts, f"data.root={cfg.root}", remedy
    )
    for kind in (kind for kind in LEVEL_KINDS if is_inferred.get(kind)):
        assert levels is not None
        rows = find_rows(facts, kind)
        lowest, highest = facts[rows, 4], facts[rows, 5]
        extreme = files[rows[np.maximum(highest, -lowest).argmax()]]
        pair = levels[:2] if kind == "integer" else levels[2:]
        _check_contrast(cfg, kind, pair, highest - lowest, extreme)
    return levels, all(is_inferred.values())


def _check_contrast(
    cfg: DataConfig, kind: str, levels: tuple[float, ...], spans: np.ndarray, extreme: str | Path
) -> None:
    """Raise UserError if most images would be flat, because of the extreme values of others."""
    black, white = levels
    spans = spans[spans > 0] * (255 / (white - black))
    flat = int(np.count_nonzero(spans < MIN_SPAN))
    if 2 * flat > len(spans):
        raise UserError(
            f"data.root={cfg.root}: {flat:,} of {len(spans):,} {kind} images would be of one color "
            f"if {black:g} is black and {white:g} is white. The most extreme value is in "
            f"{os.path.basename(extreme)}. Set the levels of your images, such as "
            "data.levels=[0,1]."
        )


def _check_colors(cfg: DataConfig, facts: np.ndarray) -> None:
    """Raise UserError if the 16 bits of all color images are those of a camera with fewer bits."""
    levels = facts[:, 6][facts[:, 6] > 0]
    # Two of the upper 8 bits: 14 bits or fewer.
    if len(levels) and levels.max() <= 2**6:
        bits = 8 + math.ceil(math.log2(levels.max()))
        raise UserError(
            f"data.root={cfg.root}: {len(levels):,} color images have 16 bits per channel, "
            f"but their values only {bits}. The upper 8 of the 16 bits, which are read, "
            "would be almost black. Save the images with 8 bits per channel."
        )


def _decode(
    items: Sequence[Item], decode: Callable[[Item], np.ndarray], shape: tuple[int, ...] | None
) -> Arrays:
    """Return the arrays of the cache, with the pixels [N, *shape] unless the shape is None.

    They contain no paths and no times, so that data can move: their hash is the fingerprint.
    """
    pixels = None if shape is None else np.empty((len(items), *shape), np.uint8)
    # SHA-256 of the files, which stands for the pixels if they are decoded on the fly.
    digests = np.zeros((len(items), 32), np.uint8)
    common_folder = os.path.commonpath([os.path.dirname(path) for item in items for path in item])

    def decode_row(row: int) -> str | None:
        try:
            read_pixels = decode(items[row])
        except UnreadableError as error:
            return (
                str(error).replace(f"{common_folder}{os.sep}", "") if common_folder else str(error)
            )
        if pixels is not None:
            pixels[row] = read_pixels
            digest = hashlib.sha256(np.ascontiguousarray(read_pixels).data).digest()
        else:
            digest = hashlib.sha256(b"".join(map(_read_bytes, items[row]))).digest()
        digests[row] = np.frombuffer(digest, np.uint8)
        return None

    problems = dict(run_in_threads(decode_row, len(items), f"decoding {len(items):,} images"))
    indices = np.array([row for row in range(len(items)) if row not in problems], dtype=np.int64)
    arrays = {
        "places": indices,
        "unreadable": np.array([problems[row] for row in sorted(problems)], dtype=np.str_),
        "_digests": digests.view(np.uint64)[:, :1].copy(),
    }
    if pixels is not None:
        arrays["images"] = pixels[indices] if problems else pixels
    else:
        arrays["files"] = digests
    return arrays


def hash_rows(pixels: np.ndarray) -> np.ndarray:
    """Hash each image, as uint64: equal images have equal hashes."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    digests = [hashlib.blake2b(row.data, digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), np.uint64)


def _read_bytes(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def describe_copies(train: np.ndarray, held_out: np.ndarray) -> str:
    """Report equal digests among training and held-out images; '' if there are none."""
    copies = np.count_nonzero(np.isin(held_out, train))
    if not copies:
        return ""
    return f"; {copies:,} of {len(held_out):,} held-out images are exact copies of training images"


def describe_conflicts(digests: np.ndarray, labels: np.ndarray | None) -> str:
    """Report the images that are in more than one class; '' if there are none.

    Args:
        digests: A hash of each image [N].
        labels: Its class [N]; None if there are no classes.
    """
    if labels is None:
        return ""
    distinct = np.unique(np.stack([digests, labels.astype(np.uint64)], axis=1), axis=0)
    _, classes = np.unique(distinct[:, 0], return_counts=True)
    conflicts = np.count_nonzero(classes > 1)
    if not conflicts:
        return ""
    are = "1 image is" if conflicts == 1 else f"{conflicts:,} images are"
    return f"; {are} in more than one class"


def _check_unreadable(cfg: DataConfig, problems: list[str], n: int) -> None:
    unreadable = f"{len(problems):,} of {n:,} images are unreadable: {join_and_count(problems)}"
    if len(problems) == n:
        # other reasons, such as a shape, say themselves what is wrong
        is_unknown = any("cannot identify" in problem for problem in problems)
        raise UserError(f"{unreadable}.{' Convert them to PNG or JPEG.' if is_unknown else ''}")
    if len(problems) > cfg.max_unreadable * n:
        enough = math.ceil(100 * len(problems) / n) / 100
        raise UserError(
            f"{unreadable}. This exceeds data.max_unreadable={cfg.max_unreadable:g}. Remove them, "
            f"or skip them with data.max_unreadable={enough:g}."
        )
    if problems:
        warnings.warn(f"skipping unreadable files: {unreadable}", stacklevel=3)


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
    classes = [np.arange(n)] if labels is None else group_rows(labels)
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
