"""Anyone's images: every readable file under ``data.root``, the middle square of each.

Folders of the first level are the classes, where there are at least two and every image lies in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gan_lab.data import decoding, files
from gan_lab.data.base import Decoded
from gan_lab.data.decoding import Rows
from gan_lab.images import ImageSpec
from gan_lab.schema import DataConfig


def decode(cfg: DataConfig) -> Decoded:
    """The images of the folder, a tenth held out. Raises ValueError, with what was seen, if there are none."""
    root = Path(cfg.root)
    if cfg.source == "sample":
        raise ValueError("data.source=sample: data.name=folder has no sample, data.root names a folder of images")
    paths = images_under(root)
    opened = decoding.opened(
        cfg, [(path,) for path in paths], partial(decoding.middle, size=cfg.size), "square", "folder"
    )
    names, labels = classes(root, [paths[place] for place in opened.places]) if cfg.labels else ([], None)
    train, test = decoding.split(len(opened.places), labels)
    about = (
        f"{len(train):,} images of {root}, {len(test):,} held out"
        + (f", in {len(names)} classes ({listed(names)}), which data.labels=false hides" if names else "")
        + opened.note
    )
    return Decoded(
        ImageSpec(3, cfg.size, cfg.size, classes=len(names)),
        Rows(opened.pixels, train), None if labels is None else labels[train],
        Rows(opened.pixels, test), None if labels is None else labels[test],
        "full", about, decoding.combined(opened.fingerprint, train, test, labels),
    )  # fmt: skip


def images_under(root: Path) -> list[Path]:
    """The image files under ``data.root``. Raises ValueError, with what was seen, if there are none."""
    if not root.is_dir():
        raise ValueError(f"data.root={root}: there is no such folder")
    paths = files.find(root)
    if not paths:
        raise ValueError(f"data.root={root}: no images (seen: {files.seen(root)})")
    return paths


def classes(root: Path, paths: Sequence[Path]) -> tuple[list[str], np.ndarray | None]:
    """The first-level folders' names and the number of each image's [N] int64; none if that would be no labelling."""
    inside = [path.relative_to(root).parts for path in paths]
    names = sorted({parts[0] for parts in inside})
    if len(names) < 2 or any(len(parts) == 1 for parts in inside):
        return [], None
    return names, np.array([names.index(parts[0]) for parts in inside], dtype=np.int64)


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, at most so many of them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
