"""Pairs of images, as in the sets of Isola et al. 2017 (arXiv 1611.07004): day and night, facades, edges, maps.

Under ``data.root`` lie either images of which the left half is A and the right half B, in the folders train, and test
or val, or simply there; or the folders A and B (or trainA and trainB, and testA and testB) with files of equal names.
The sample is generated: horses (A) in their plain coat and the same ones striped (B).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.data import decoding, files, horses
from gan_lab.data.base import Decoded
from gan_lab.data.decoding import Item, Rows
from gan_lab.images import ImageSpec
from gan_lab.schema import DataConfig

LAYOUTS = (
    "images side by side (left A, right B) in train, and test or val, or in the folder itself; or the folders A and B, "
    "or trainA and trainB, with files of equal names"
)
NARROWEST, WIDEST = 1.5, 3.5  # width by height of two images side by side


def decode(cfg: DataConfig) -> Decoded:
    """The set that ``cfg.source`` asks for. Raises ValueError if that is 'full' and it is not there."""
    root = Path(cfg.root)
    train, test = ([], []) if cfg.source == "sample" else found(root)
    if train:
        return _full(cfg, root, train, test)
    if cfg.source == "full":
        there = files.seen(root) if root.is_dir() else "no such folder"
        raise ValueError(f"data.source=full: no pairs in {root} ({there}). There should be {LAYOUTS}")
    reason = "data.source=sample" if cfg.source == "sample" else f"no pairs in {root}"
    return horses.sample(cfg, paired=True, reason=reason)


def _full(cfg: DataConfig, root: Path, train: list[Item], test: list[Item]) -> Decoded:
    opened = decoding.opened(cfg, [*train, *test], partial(both, size=cfg.size), "pairs", "pairs", channels=6)
    rows = np.arange(len(opened.places))
    held = opened.places >= len(train)
    train_rows, test_rows = (rows[~held], rows[held]) if held.any() else decoding.split(len(rows))
    a, b = (0, 3), (3, 6)
    source, target = (a, b) if cfg.direction == "AtoB" else (b, a)
    about = f"{len(train_rows):,} pairs of {root}, {len(test_rows):,} held out{opened.note}"
    return Decoded(
        ImageSpec(3, cfg.size, cfg.size, source_channels=3, pairs="all"),
        Rows(opened.pixels, train_rows, target), None, Rows(opened.pixels, test_rows, target), None, "full", about,
        decoding.combined(opened.fingerprint, train_rows, test_rows, cfg.direction),
        Rows(opened.pixels, train_rows, source), Rows(opened.pixels, test_rows, source),
    )  # fmt: skip


def both(item: Item, size: int) -> np.ndarray:
    """A and B as uint8 [6, size, size]: of two files, or the halves of one. Raises UnreadableError."""
    if len(item) == 2:
        return np.concatenate([files.square(path, size) for path in item])
    image = files.opened(item[0])
    width, height = image.size
    if not NARROWEST * height <= width <= WIDEST * height:
        raise files.UnreadableError(f"{item[0]}: {width} x {height} are not two images side by side")
    half = width // 2
    halves = image.crop((0, 0, half, height)), image.crop((width - half, 0, width, height))
    return np.concatenate([files.squared(one, size) for one in halves])


def found(root: Path) -> tuple[list[Item], list[Item]]:
    """The pairs for training and those held out (none: a tenth is to be taken). Raises ValueError for folders A and B
    that do not correspond."""
    if not root.is_dir():
        return [], []
    for train, test in ((("trainA", "trainB"), ("testA", "testB")), (("A/train", "B/train"), ("A/test", "B/test"))):
        if all((root / side).is_dir() for side in train):
            return _matched(root, *train), _matched(root, *test) if (root / test[0]).is_dir() else []
    if (root / "A").is_dir() and (root / "B").is_dir():
        return _matched(root, "A", "B"), []
    if (root / "train").is_dir():
        held = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
        return _halves(files.find(root / "train")), _halves(files.find(held)) if held else []
    return _halves([path for path in files.find(root) if path.parent == root]), []


def _halves(paths: list[Path]) -> list[Item]:
    return [(path,) for path in paths]


def _matched(root: Path, a: str, b: str) -> list[Item]:
    sides = []
    for side in (root / a, root / b):
        if not side.is_dir():
            raise ValueError(f"{side}: there is no such folder")
        sides.append({path.relative_to(side).with_suffix(""): path for path in files.find(side)})
    alone = sorted(str(name) for name in sides[0].keys() ^ sides[1].keys())
    if alone:
        raise ValueError(
            f"{root}: {a} and {b} should hold files of equal names, but {files.listed(alone)} are in one of them only"
        )
    return [(sides[0][name], sides[1][name]) for name in sorted(sides[0])]
