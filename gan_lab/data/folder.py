"""Anyone's images: every readable file under ``data.root``, the middle of each in the shape of ``data.size``.

Folders of the first level are the classes, where there are at least two and every image lies in one. Folders called
train and test (or val) are no classes: those below them are, and what is in test is held out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.split import Rows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

SIZE = 64  # usual, in pixels
METADATA = (
    "metadata.csv",
    "metadata.jsonl",
)  # of Hugging Face's image folders, which data.name=huggingface reads


def decode(cfg: DataConfig) -> ArrayDataset:
    """The images of the folder, a tenth held out. Raises UserError, with what was seen, if there are none."""
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: data.name=folder has no sample, data.root names a folder of images"
        )
    root = layouts.place(cfg.root)
    parts = layouts.parts(root)
    first, held, unused = parts or (root, None, [])
    paths = images_under(first)
    more = images_under(held) if held else []
    inside = [
        path.relative_to(place)
        for place, some in ((first, paths), (held, more))
        if place
        for path in some
    ]
    items = [(path,) for path in (*paths, *more)]
    if cfg.labels:
        _warn_of_metadata([root, first, *([held] if held else [])])
    opened = decoding.open_items(cfg, items, "folder", as_files=True)
    names, labels = (
        classes(first, [inside[place] for place in opened.places]) if cfg.labels else ([], None)
    )
    train, test = opened.parts(len(paths), labels)
    about = (
        f"{len(train):,} images of {cfg.root}, {len(test):,} held out"
        + (f" (those of {held.name})" if held else "")
        + (
            f", in {len(names)} classes ({join_names(names)}), which data.labels=false hides"
            if names
            else ""
        )
        + (f"; not used: {', '.join(unused)}" if unused else "")
        + opened.note
    )
    return ArrayDataset(
        ImageSpec(opened.frame.channels, *cfg.shape, classes=len(names)),
        Rows(opened.pixels, train), None if labels is None else labels[train],
        Rows(opened.pixels, test), None if labels is None else labels[test],
        "full", about, decoding.combine_fingerprints(opened.fingerprint, train, test, labels), class_names=names,
    )  # fmt: skip


def _warn_of_metadata(folders: Sequence[Path]) -> None:
    """Warn that labels in a file of metadata are not read, in one line."""
    files = [folder / name for folder in folders for name in METADATA if (folder / name).is_file()]
    if files:
        warnings.warn(
            f"{files[0]} is not read. Set data.name=huggingface to use its labels.", stacklevel=3
        )


def images_under(root: Path) -> list[Path]:
    """The image files under a folder. Raises UserError, with what was seen, if there are none."""
    paths = image_files.find(root)
    if not paths:
        raise UserError(f"data.root={root}: no images (seen: {image_files.seen(root)})")
    return paths


def classes(root: Path, inside: Sequence[Path]) -> tuple[list[str], np.ndarray | None]:
    """The first-level folders' names and the number of each image's [N] int64; none if that would be no labelling.

    ``inside`` are the images, relative to the root. Where images beside the folders are the reason, a warning says so.
    """
    beside = [path.name for path in inside if len(path.parts) == 1]
    names = sorted({path.parts[0] for path in inside if len(path.parts) > 1})
    if len(names) >= 2 and beside:
        warnings.warn(
            f"{root} has no labels, for {image_files.join_names(beside)} {'lies' if len(beside) == 1 else 'lie'} beside the folders "
            f"{join_names(names)}: put every image into a folder, or say data.labels=false", stacklevel=2,
        )  # fmt: skip
    if len(names) < 2 or beside:
        return [], None
    return names, np.array([names.index(path.parts[0]) for path in inside], dtype=np.int64)


def join_names(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, at most so many of them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
