"""A folder of images: every readable file under ``data.root``, center-cropped to ``data.size``.

Top-level folders are classes if there are at least two and every image is in one. The folders train
and test (or val) are splits, whose subfolders are the classes; the images of test are held out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import USER_DATA_CACHE
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

# The default of data.size.
SIZE = 64


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
    found = image_files.take_inventory(root, cache=USER_DATA_CACHE)
    found.drop_links()
    found.warn_of_losses()
    _check_images(found, root)
    splits = layouts.find_splits(found, cfg.layout)
    train_folder, held_out_folder = splits or (found.folder, None)
    train_files = found.under(train_folder)
    held_out_files = found.under(held_out_folder) if held_out_folder else []
    relative_paths = [path[len(str(train_folder)) + 1 :] for path in train_files]
    if held_out_folder:
        relative_paths += [path[len(str(held_out_folder)) + 1 :] for path in held_out_files]
    files = [*train_files, *held_out_files]
    found.use(files, "outside of the training and held-out folders")
    _check_images(found, train_folder)
    if cfg.labels:
        _warn_of_metadata(found)
    opened = decoding.open_items(
        cfg, [(path,) for path in files], "folder", as_files=True, states=found.states
    )
    names: list[str] = []
    labels = None
    if cfg.labels:
        readable = [relative_paths[index] for index in opened.indices]
        names, labels = infer_classes(train_folder, readable)
        if not names and cfg.layout == "auto":
            _warn_of_inner_classes(train_folder, readable)
        if all(os.sep in path for path in readable):
            _warn_of_lost_classes(found, [train_folder, held_out_folder], names)
    if splits:
        _warn_of_lost_splits(found)
    train, test = opened.split(len(train_files), labels)
    check_held_out_classes(names, labels, train, test)
    about = f"{len(train):,} images of {cfg.root}, {len(test):,} held out"
    if held_out_folder:
        about += f" (folder {held_out_folder.name})"
    if names:
        listed = image_files.join_names(names)
        about += f", {len(names)} classes ({listed}; data.labels=false ignores them)"
        inside = [path.name for path in layouts.list_folders(train_folder)]
        with_images = set(names)
        if empty := [name for name in inside if name not in with_images]:
            about += f", no images in the folders {image_files.join_names(empty)}"
    about += opened.note + opened.describe_copies(train, test, labels)
    counts = found.count(len(train) + len(test), opened.unreadable)
    return ArrayDataset(
        spec=ImageSpec(opened.frame.channels, *cfg.shape, classes=len(names)),
        train_images=SelectedRows(opened.pixels, train),
        train_labels=None if labels is None else labels[train],
        test_images=SelectedRows(opened.pixels, test),
        test_labels=None if labels is None else labels[test],
        source="full",
        about=f"{about}; {counts}",
        fingerprint=decoding.combine_fingerprints(opened.fingerprint, train, test, labels),
        class_names=names,
        levels=opened.levels,
        files=counts,
    )


def _check_images(found: image_files.Inventory, folder: Path) -> None:
    """Raise UserError if there are no images in a folder."""
    if not found.images:
        raise UserError(
            f"data.root={folder}: no images (found: {found.describe_suffixes()}). Set it to a "
            "folder of images."
        )


def _warn_of_metadata(found: image_files.Inventory) -> None:
    """Warn that the labels of a metadata file are ignored."""
    if found.metadata:
        warnings.warn(
            f"{found.metadata[0]} is ignored. Set data.name=huggingface to use its labels.",
            stacklevel=3,
        )


def _list_lost_folders(found: image_files.Inventory) -> list[tuple[str, str]]:
    """List the dead links and closed folders with the reason; links to single images are none."""
    broken = [
        path
        for path in found.left_out.get(image_files.BROKEN_LINKS, ())
        if image_files.suffix_of(path) not in image_files.IMAGE_SUFFIXES
    ]
    closed = found.unsearched.get(image_files.INACCESSIBLE_FOLDERS, ())
    return [(path, "a broken link") for path in broken] + [
        (path, "an inaccessible folder") for path in closed
    ]


def _warn_of_lost_classes(
    found: image_files.Inventory, folders: Sequence[Path | None], names: Sequence[str]
) -> None:
    """Warn of the classes whose folder, or a folder in it, is a dead link or closed.

    Args:
        found: The files under the root.
        folders: The folders of the training and of the held-out images, if any.
        names: The classes that have images.
    """
    for lost, reason in _list_lost_folders(found):
        path = found.folder / lost
        inside = next((each for each in folders if each and path.is_relative_to(each)), None)
        if inside is None:
            continue
        name = path.relative_to(inside).parts[0]
        loss = "images of the class {} are missing" if name in names else "the class {} is missing"
        warnings.warn(f"{path} is {reason}: {loss.format(name)}.", stacklevel=3)


def _warn_of_lost_splits(found: image_files.Inventory) -> None:
    """Warn of the folders of splits that are dead links or closed."""
    for lost, reason in _list_lost_folders(found):
        if os.sep not in lost and layouts.guess_split(lost):
            warnings.warn(f"{found.folder / lost} is {reason}: a split is missing.", stacklevel=3)


def infer_classes(root: Path, relative_paths: Sequence[str]) -> tuple[list[str], np.ndarray | None]:
    """Infer the classes from the top-level folders.

    Images outside of these folders disable the labels, with a warning.

    Args:
        root: The folder, for the warning.
        relative_paths: The images, relative to the root.

    Returns:
        The class names and the labels [N] int64, or an empty list and None.
    """
    parts = [path.partition(os.sep) for path in relative_paths]
    outside = [first for first, separator, _ in parts if not separator]
    names = sorted({first for first, separator, _ in parts if separator})
    if len(names) >= 2 and outside:
        warnings.warn(
            f"{root}: training without labels, because {image_files.join_and_count(outside)} "
            f"{'is' if len(outside) == 1 else 'are'} outside of the class folders "
            f"{image_files.join_names(names)}. Move every image into a class folder, "
            "or set data.labels=false.",
            stacklevel=2,
        )
    if len(names) < 2 or outside:
        return [], None
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number[first] for first, _, _ in parts], dtype=np.int64)


def _warn_of_inner_classes(root: Path, relative_paths: Sequence[str]) -> None:
    """Warn if all images are in one folder, at any depth, that has the class folders."""
    folders = {os.path.dirname(path) for path in relative_paths}
    common = os.path.commonpath(folders) if folders else ""
    if not common:
        return
    below = [path[len(common) + 1 :].partition(os.sep) for path in relative_paths]
    names = sorted({first for first, separator, _ in below if separator})
    if len(names) >= 2 and all(separator for _, separator, _ in below):
        folder = root / common
        warnings.warn(
            f"training without labels, because the folders {image_files.join_names(names)} are "
            f"inside of {folder}. Set data.root={folder} to use them as classes, "
            "or data.labels=false.",
            stacklevel=3,
        )


def check_held_out_classes(
    names: Sequence[str], labels: np.ndarray | None, train: np.ndarray, held_out: np.ndarray
) -> None:
    """Raise UserError if a held-out class has no training image."""
    if labels is None:
        return
    unseen = np.setdiff1d(labels[held_out], labels[train])
    if len(unseen):
        missing = image_files.join_names([names[i] for i in unseen])
        raise UserError(
            f"data: no training image has the class {missing}, but "
            "held-out images have. Remove these images, add some to the training split, or set "
            "data.labels=false."
        )
