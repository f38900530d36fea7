"""A folder of images: every readable file under ``data.root``, center-cropped to ``data.size``.

Top-level folders are classes if there are at least two and every image is in one. The folders train
and test (or val) are splits, whose subfolders are the classes; the images of test are held out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

# The default of data.size.
SIZE = 64
# The metadata files of a Hugging Face image folder, which data.name=huggingface reads.
METADATA = ("metadata.csv", "metadata.jsonl")


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the images of the folder. Without a folder test or val, 10% are held out.

    Raises:
        UserError: The folder contains no images.
    """
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: data.name=folder has no sample. Set data.root to a folder of "
            "images."
        )
    root = layouts.resolve_root(cfg.root)
    train_folder, held_out_folder, unused = layouts.find_splits(root) or (root, None, [])
    train_paths = list_images_under(train_folder)
    relative_paths = [path.relative_to(train_folder) for path in train_paths]
    held_out_paths: list[Path] = []
    if held_out_folder:
        held_out_paths = list_images_under(held_out_folder)
        relative_paths += [path.relative_to(held_out_folder) for path in held_out_paths]
    items = [(path,) for path in (*train_paths, *held_out_paths)]
    if cfg.labels:
        _warn_of_metadata([root, train_folder, *([held_out_folder] if held_out_folder else [])])
    opened = decoding.open_items(cfg, items, "folder", as_files=True)
    names: list[str] = []
    labels = None
    if cfg.labels:
        readable = [relative_paths[index] for index in opened.indices]
        names, labels = infer_classes(train_folder, readable)
    train, test = opened.split(len(train_paths), labels)
    about = f"{len(train):,} images of {cfg.root}, {len(test):,} held out"
    if held_out_folder:
        about += f" (folder {held_out_folder.name})"
    if names:
        about += f", {len(names)} classes ({join_names(names)}; data.labels=false ignores them)"
    if unused:
        about += f"; unused folders: {', '.join(unused)}"
    about += opened.note
    return ArrayDataset(
        spec=ImageSpec(opened.frame.channels, *cfg.shape, classes=len(names)),
        train_images=SelectedRows(opened.pixels, train),
        train_labels=None if labels is None else labels[train],
        test_images=SelectedRows(opened.pixels, test),
        test_labels=None if labels is None else labels[test],
        source="full",
        about=about,
        fingerprint=decoding.combine_fingerprints(opened.fingerprint, train, test, labels),
        class_names=names,
    )


def _warn_of_metadata(folders: Sequence[Path]) -> None:
    """Warn that the labels of a metadata file are ignored."""
    files = [folder / name for folder in folders for name in METADATA if (folder / name).is_file()]
    if files:
        warnings.warn(
            f"{files[0]} is ignored. Set data.name=huggingface to use its labels.", stacklevel=3
        )


def list_images_under(root: Path) -> list[Path]:
    """List the image files under a folder. Raises UserError if there are none."""
    paths = image_files.find_images(root)
    if not paths:
        raise UserError(
            f"data.root={root}: no images (found: {image_files.count_suffixes(root)}). Set it to a "
            "folder of images."
        )
    return paths


def infer_classes(
    root: Path, relative_paths: Sequence[Path]
) -> tuple[list[str], np.ndarray | None]:
    """Infer the classes from the top-level folders.

    Images outside of these folders disable the labels, with a warning.

    Args:
        root: The folder, for the warning.
        relative_paths: The images, relative to the root.

    Returns:
        The class names and the labels [N] int64, or an empty list and None.
    """
    outside = [path.name for path in relative_paths if len(path.parts) == 1]
    names = sorted({path.parts[0] for path in relative_paths if len(path.parts) > 1})
    if len(names) >= 2 and outside:
        warnings.warn(
            f"{root}: training without labels, because {image_files.join_names(outside)} "
            f"{'is' if len(outside) == 1 else 'are'} outside of the class folders "
            f"{join_names(names)}. Move every image into a class folder, or set data.labels=false.",
            stacklevel=2,
        )
    if len(names) < 2 or outside:
        return [], None
    labels = [names.index(path.parts[0]) for path in relative_paths]
    return names, np.array(labels, dtype=np.int64)


def join_names(names: Sequence[str], most: int = 10) -> str:
    """Join up to ``most`` names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
