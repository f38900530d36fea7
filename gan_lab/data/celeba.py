"""CelebA: 202,599 faces with 40 attributes (Liu et al. 2015, arXiv 1411.7766), or 100 sample faces.

Supported layouts are torchvision's, Kaggle's, and a folder with the images and the attribute file.
The 178 x 178 center crop is resized. If the authors' partition file exists, it decides the
training, validation and test sets. The sample is from scikit-image: gray, 25 x 25 pixels, 80 faces
for training and 20 held out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, download
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.data.image_files import IMAGE_SUFFIXES, suffix_of
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError

# The aligned images have 178 x 218 pixels.
CROP_PIXELS = 178
# The first 100 rows of lfw_subset are faces.
SAMPLE_FACES, SAMPLE_TRAIN_FACES = 100, 80
IMAGES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
# 8 attributes make 256 classes.
MAX_ATTRIBUTES = 8
SITE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
GOOGLE_DRIVE_URL = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
# The authors' folder; torchvision has the same addresses.
ON_DRIVE = {
    f"{IMAGES}.zip": f"{GOOGLE_DRIVE_URL}0B7EVK8r0v71pZjFTYXZWM3FlRnM",
    f"{ATTRIBUTES}.txt": f"{GOOGLE_DRIVE_URL}0B7EVK8r0v71pblRyaVFSWGxPY0U",
    f"{PARTITION}.txt": f"{GOOGLE_DRIVE_URL}0B7EVK8r0v71pY0NSMzRuSXJEVkk",
}
MIRROR_URLS = ("https://s3-us-west-1.amazonaws.com/udacity-dlnfd/datasets/celeba.zip",)
# Archives with images and attributes.
BUNDLE_URLS = ("https://www.dropbox.com/s/d1kjpkqklf0uw77/celeba.zip?dl=1",)
# Hashes of the authors' files.
SHA256 = {
    f"{IMAGES}.zip": "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
    f"{ATTRIBUTES}.txt": "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
    f"{PARTITION}.txt": "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
}
# The default of data.size.
SIZE = 64
LAYOUT = (
    f"the folder celeba with {IMAGES}.zip or its contents, {ATTRIBUTES}.txt and {PARTITION}.txt"
)
SAMPLE, DOWNLOADS = "100 faces", True


class Layout(NamedTuple):
    """Paths of the files of CelebA."""

    images: Path
    attributes: Path | None
    partition: Path | None


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set of ``cfg.source``.

    Raises:
        UserError: The full set is required but not available, or an attribute does not exist.
    """
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if not problem:
        return _full(cfg, _layout(root))
    if cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. Download img_align_celeba.zip, list_attr_celeba.txt and "
            f"list_eval_partition.txt from {SITE} (or Kaggle: jessicali9530/celeba-dataset) into "
            f"{root / 'celeba'}, or set data.source=sample."
        )
    if cfg.attributes:
        raise UserError(
            f"data.attributes={','.join(cfg.attributes)}: the sample faces have no attributes. "
            f"They are used because: {problem}."
        )
    arrays, fingerprint = decoded_once(
        root, f"faces-{cfg.size}", f"lfw_subset/{cfg.size}/1", lambda: _sample(cfg.size)
    )
    about = (
        f"{SAMPLE_FACES} real faces (LFW) from scikit-image ({SAMPLE_TRAIN_FACES} train, "
        f"{SAMPLE_FACES - SAMPLE_TRAIN_FACES} held out): {problem}"
    )
    images = arrays["train_images"], None, arrays["test_images"], None
    return ArrayDataset(ImageSpec(1, cfg.size, cfg.size), *images, "sample", about, fingerprint)


def _sample(size: int) -> Arrays:
    from skimage import data

    faces = (data.lfw_subset()[:SAMPLE_FACES, None] * 255).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(SAMPLE_FACES)
    return {
        "train_images": resize(faces[np.sort(order[:SAMPLE_TRAIN_FACES])], size),
        "test_images": resize(faces[np.sort(order[SAMPLE_TRAIN_FACES:])], size),
    }


def _full(cfg: DataConfig, layout: Layout | None) -> ArrayDataset:
    assert layout is not None
    names = sorted(name for name in os.listdir(layout.images) if suffix_of(name) in IMAGE_SUFFIXES)
    labels = _labels(cfg, layout, names) if cfg.attributes else None
    opened = decoding.open_items(
        cfg,
        [(os.path.join(layout.images, name),) for name in names],
        "celeba",
        partial(decoding.read_file, crop=CROP_PIXELS),
        f"crop {CROP_PIXELS}",
        cache=Path(cfg.root),
    )
    names = [names[index] for index in opened.indices]
    labels = None if labels is None else labels[opened.indices]
    train, test, validation = _split(layout, names, labels)
    about = (
        f"{len(names):,} faces of CelebA ({len(train):,} train, {len(test):,} held out) from "
        f"{layout.images}"
    )
    if cfg.attributes:
        about += f", classes by {', '.join(cfg.attributes)}"
    about += opened.note
    return ArrayDataset(
        spec=ImageSpec(
            opened.frame.channels,
            cfg.size,
            cfg.size,
            classes=2 ** len(cfg.attributes) if cfg.attributes else 0,
        ),
        train_images=SelectedRows(opened.pixels, train),
        train_labels=None if labels is None else labels[train],
        test_images=SelectedRows(opened.pixels, test),
        test_labels=None if labels is None else labels[test],
        source="full",
        about=about,
        fingerprint=decoding.combine_fingerprints(opened.fingerprint, train, test, labels),
        class_names=_class_names(cfg.attributes),
        validation=validation,
    )


def _class_names(attributes: Sequence[str]) -> list[str]:
    """Name each combination of attributes, such as "Smiling, not Male".

    Bit i of a class number says whether attribute i is present.
    """
    if not attributes:
        return []
    names = []
    for label in range(2 ** len(attributes)):
        parts = [name if label >> i & 1 else f"not {name}" for i, name in enumerate(attributes)]
        names.append(", ".join(parts))
    return names


def _labels(cfg: DataConfig, layout: Layout, files: list[str]) -> np.ndarray:
    """Return the class of each image [N] int64: the sum of 2^i over its attributes i."""
    key = f"data.attributes={','.join(cfg.attributes)}"
    if layout.attributes is None:
        raise UserError(
            f"{key}: no {ATTRIBUTES}.txt or .csv next to {layout.images}. Download it from {SITE}."
        )
    names, rows = _read_table(layout.attributes)
    for name in cfg.attributes:
        if name not in names:
            raise UserError(f"{key}: {explain_unknown_name('attribute', name, names)}")
    if len(set(cfg.attributes)) < len(cfg.attributes) or len(cfg.attributes) > MAX_ATTRIBUTES:
        raise UserError(f"{key}: list up to {MAX_ATTRIBUTES} attributes, each once.")
    missing = [file for file in files if file not in rows]
    if missing:
        raise UserError(
            f"{layout.attributes} lacks {missing[0]} and {len(missing) - 1:,} others. Download the "
            f"complete file from {SITE}."
        )
    columns = [names.index(name) for name in cfg.attributes]
    has = np.array([[int(rows[file][column]) > 0 for column in columns] for file in files])
    return has @ (1 << np.arange(len(columns), dtype=np.int64))


def _split(
    layout: Layout, files: list[str], labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return training rows, held-out rows, and the positions of validation images among the latter.

    The positions are None without the authors' partition.
    """
    if layout.partition is not None:
        _, rows = _read_table(layout.partition)
        # 0: train, 1: validation, 2: test.
        part = np.array([int(rows.get(file, ["-1"])[0]) for file in files])
        train = np.flatnonzero(part == 0)
        held_out = np.flatnonzero(part > 0)
        validation = np.flatnonzero(part[part > 0] == 1)
        if len(train) and 0 < len(validation) < len(held_out):
            return train, held_out, validation
        if len(train) and len(held_out):
            return train, held_out, None
    return *decoding.split_train_test(len(files), labels), None


def _read_table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the column names and the rows by file name, from the authors' .txt or Kaggle's .csv.

    The authors' attribute file starts with the number of rows and a line of names; their partition
    file has neither.

    Raises:
        UserError: The file has another format.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    separator = "," if path.suffix == ".csv" else None
    rows = [[field.strip() for field in line.split(separator)] for line in lines if line.strip()]
    try:
        if separator:
            names, rows = rows[0][1:], rows[1:]
        elif len(rows[0]) == 1:
            names, rows = rows[1], rows[2:]
        else:
            names = [str(i) for i in range(len(rows[0]) - 1)]
        if any(len(fields) != len(names) + 1 for fields in rows):
            raise IndexError
        int(rows[0][1])
    except (IndexError, ValueError):
        raise UserError(f"{path} is not a CelebA table. Download it from {SITE}.") from None
    return names, {fields[0]: fields[1:] for fields in rows}


def _layout(root: Path) -> Layout | None:
    """Find the first folder of images in one of the known layouts."""
    for base in (root / "celeba", root / "CelebA", root / "celeba" / "celeba", root):
        for name in (f"{IMAGES}/{IMAGES}", IMAGES, "images", "."):
            folder = base / name
            near = [folder, folder.parent, folder.parent.parent] if name != "." else [folder]
            attributes, partition = _find_table(near, ATTRIBUTES), _find_table(near, PARTITION)
            # Any folder may be called "images": it is CelebA only with the attribute file.
            if name in (".", "images") and attributes is None:
                continue
            if not folder.is_dir():
                continue
            if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
                return Layout(folder, attributes, partition)
    return None


def _find_table(folders: list[Path], stem: str) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for folder in folders for suffix in (".txt", ".csv"))
    return next((path for path in candidates if path.is_file()), None)


def is_present(root: Path) -> bool:
    """True if a folder contains CelebA or its archive."""
    return _layout(root) is not None or any(archive.is_file() for archive in _archives(root))


def _archives(root: Path) -> list[Path]:
    home = root / "celeba"
    return [
        home / f"{IMAGES}.zip",
        home / "celeba.zip",
        home / "archive.zip",
        root / f"{IMAGES}.zip",
    ]


def find_full(root: Path) -> str:
    """Unpack or download CelebA into ``root`` if needed; return '' or why it is missing."""
    home = root / "celeba"
    return download.provide(root, _layout, lambda: _archive(root, home), home, "celeba", "CelebA")


def _archive(root: Path, home: Path) -> tuple[Path, str]:
    """An archive that lies there or is downloaded, or why not."""
    images = home / f"{IMAGES}.zip"
    for archive in _archives(root):
        if archive.is_file():
            download.check_published(archive, SHA256.get(archive.name, ""))
            return archive, ""
    problem = download.fetch((ON_DRIVE[f"{IMAGES}.zip"],), images, sha256=SHA256[images.name])
    if problem:
        # Mirrors have a different archive of the same images, so there is no hash to verify.
        mirror_problem = download.fetch(MIRROR_URLS, images)
        problem = mirror_problem and f"{problem}; {mirror_problem}"
    if problem:
        bundle_problem = download.fetch(BUNDLE_URLS, home / "celeba.zip")
        if bundle_problem:
            problem = (
                f"CelebA is not in {root} and the downloads failed ({problem}; {bundle_problem})"
            )
        else:
            problem = ""
        return home / "celeba.zip", problem
    # Optional: without them there are no classes, and 10% are held out.
    for name in (ATTRIBUTES, PARTITION):
        download.fetch(
            (ON_DRIVE[f"{name}.txt"],),
            home / f"{name}.txt",
            archive=False,
            sha256=SHA256[f"{name}.txt"],
        )
    return images, ""
