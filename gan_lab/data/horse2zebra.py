"""Two sets of images without pairs: horses and zebras of Zhu et al. 2017 (arXiv 1703.10593), or any other two.

Under ``data.root``, or in ``horse2zebra`` there, lie the folders trainA and trainB, and testA and testB; without these
a tenth is held out. The sample is generated: plain horses and other ones striped, of the held-out ones both coats.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.data import decoding, download, files, horses
from gan_lab.data.base import Decoded
from gan_lab.data.decoding import Rows
from gan_lab.images import ImageSpec
from gan_lab.schema import DataConfig

SOURCES = (
    "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/horse2zebra.zip",
    "https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/horse2zebra.zip",
)
FOLDERS = ("trainA", "trainB", "testA", "testB")


def decode(cfg: DataConfig) -> Decoded:
    """The set that ``cfg.source`` asks for. Raises ValueError if that is 'full' and it cannot be had."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if not problem:
        home = _home(root)
        assert home is not None
        return _full(cfg, home)
    if cfg.source == "full":
        raise ValueError(
            f"data.source=full: {problem}. Unpack {SOURCES[0]} into {root}, or name by data.root a folder with trainA "
            "and trainB, or take data.source=sample"
        )
    return horses.sample(cfg, paired=False, reason=problem)


def _full(cfg: DataConfig, home: Path) -> Decoded:
    lists = {name: files.find(home / name) if (home / name).is_dir() else [] for name in FOLDERS}
    for name in ("trainA", "trainB"):
        if not lists[name]:
            raise ValueError(f"{home / name}: no images (seen: {files.seen(home / name)})")
    sides = {}
    notes = ""
    for side in "AB":
        train, test = lists[f"train{side}"], lists[f"test{side}"]
        items = [(path,) for path in (*train, *test)]
        reader = partial(decoding.middle, size=cfg.size)
        opened = decoding.opened(cfg, items, reader, "square", f"unpaired-{side}")
        rows = np.arange(len(opened.places))
        held = opened.places >= len(train)
        parts = (rows[~held], rows[held]) if held.any() else decoding.split(len(rows))
        sides[side] = (opened, *parts)
        notes = notes or opened.note
    target, source = ("B", "A") if cfg.direction == "AtoB" else ("A", "B")
    images, train_images, test_images = sides[target]
    sources, train_sources, test_sources = sides[source]
    about = (
        f"{len(train_sources):,} images {source} and {len(train_images):,} {target} ({len(test_sources):,} and "
        f"{len(test_images):,} held out), unpaired: found in {home}{notes}"
    )
    return Decoded(
        ImageSpec(3, cfg.size, cfg.size, source_channels=3),
        Rows(images.pixels, train_images), None, Rows(images.pixels, test_images), None, "full", about,
        decoding.combined(images.fingerprint, sources.fingerprint, train_images, test_images, test_sources),
        Rows(sources.pixels, train_sources), Rows(sources.pixels, test_sources),
    )  # fmt: skip


def _home(root: Path) -> Path | None:
    return next((home for home in (root, root / "horse2zebra") if (home / "trainA").is_dir()), None)


def find_full(root: Path) -> str:
    """Make sure that the two sets are in ``root``, downloading horses and zebras if need be; otherwise say why not."""
    return download.provide(root, _home, lambda: _archive(root), root, "horse2zebra", "trainA")


def _archive(root: Path) -> tuple[Path, str]:
    archive = root / "horse2zebra.zip"
    problem = download.fetch(SOURCES, archive)
    return archive, problem and f"no trainA and trainB in {root}, and the download of horse2zebra failed ({problem})"
