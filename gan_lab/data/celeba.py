"""CelebA: 202,599 faces with 40 attributes of Liu et al. 2015 (arXiv 1411.7766), or the 100 faces inside scikit-image.

Recognised are torchvision's layout, Kaggle's, and one folder with images and attribute file. The centre of 178 x 178
pixels is resized. Training, validation and test faces are those of the authors' partition, where its file is there. The
sample is gray: 80 faces of 25 x 25 pixels for training, 20 held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torchvision.datasets import CelebA

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, download
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.data.image_files import SUFFIXES
from gan_lab.data.split import Rows
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError

CROP = 178  # the width of the aligned images, whose height is 218
FACES, TRAIN = 100, 80  # of the sample: the first 100 rows of lfw_subset are faces
IMAGES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
MOST = 8  # attributes, which make 256 classes
SITE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
ON_DRIVE = {name: f"{DRIVE}{number}" for number, _, name in CelebA.file_list}
MIRRORS = ("https://s3-us-west-1.amazonaws.com/udacity-dlnfd/datasets/celeba.zip",)
BUNDLES = (
    "https://www.dropbox.com/s/d1kjpkqklf0uw77/celeba.zip?dl=1",
)  # images and attributes in one
SHA256 = {  # of the authors' files
    f"{IMAGES}.zip": "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
    f"{ATTRIBUTES}.txt": "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
    f"{PARTITION}.txt": "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
}
SIZE = 64  # usual, in pixels
LAYOUT = (
    f"the folder celeba with {IMAGES}.zip or what is in it, {ATTRIBUTES}.txt and {PARTITION}.txt"
)
SAMPLE, DOWNLOADS = "100 faces", True


class Layout(NamedTuple):
    """Paths of the parts of CelebA."""

    images: Path
    attributes: Path | None
    partition: Path | None


def decode(cfg: DataConfig) -> ArrayDataset:
    """The set that ``cfg.source`` asks for. Raises UserError if that is 'full' and it cannot be had, and for
    attributes that the data do not have."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if not problem:
        return _full(cfg, _layout(root))
    if cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. From {SITE} (or Kaggle: jessicali9530/celeba-dataset) put "
            f"img_align_celeba.zip or the folder in it, list_attr_celeba.txt and list_eval_partition.txt into "
            f"{root / 'celeba'}, or take data.source=sample"
        )
    if cfg.attributes:
        raise UserError(
            f"data.attributes={','.join(cfg.attributes)}, but the sample of faces has none: {problem}"
        )
    arrays, fingerprint = decoded_once(
        root, f"faces-{cfg.size}", f"lfw_subset/{cfg.size}/1", lambda: _sample(cfg.size)
    )
    about = f"the {FACES} real faces (LFW) embedded in scikit-image ({TRAIN} train, {FACES - TRAIN} held out): {problem}"
    images = arrays["train_images"], None, arrays["test_images"], None
    return ArrayDataset(ImageSpec(1, cfg.size, cfg.size), *images, "sample", about, fingerprint)


def _sample(size: int) -> Arrays:
    from skimage import data

    faces = (data.lfw_subset()[:FACES, None] * 255).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(FACES)
    return {
        "train_images": resize(faces[np.sort(order[:TRAIN])], size),
        "test_images": resize(faces[np.sort(order[TRAIN:])], size),
    }


def _full(cfg: DataConfig, layout: Layout | None) -> ArrayDataset:
    assert layout is not None
    paths = sorted(path for path in layout.images.iterdir() if path.suffix.lower() in SUFFIXES)
    labels = _labels(cfg, layout, paths) if cfg.attributes else None
    crop = partial(decoding.read_file, crop=CROP)
    opened = decoding.open_items(
        cfg, [(path,) for path in paths], "celeba", crop, f"crop {CROP}", cache=Path(cfg.root)
    )
    paths, labels = (
        [paths[place] for place in opened.places],
        None if labels is None else labels[opened.places],
    )
    train, test, validation = _split(layout, paths, labels)
    about = (
        f"{len(paths):,} faces of CelebA ({len(train):,} train, {len(test):,} held out): found in {layout.images}"
        + (f", classes by {', '.join(cfg.attributes)}" if cfg.attributes else "") + opened.note
    )  # fmt: skip
    return ArrayDataset(
        ImageSpec(opened.frame.channels, cfg.size, cfg.size, classes=2 ** len(cfg.attributes) if cfg.attributes else 0),
        Rows(opened.pixels, train), None if labels is None else labels[train],
        Rows(opened.pixels, test), None if labels is None else labels[test],
        "full", about, decoding.combine_fingerprints(opened.fingerprint, train, test, labels),
        class_names=_class_names(cfg.attributes), validation=validation,
    )  # fmt: skip


def _class_names(attributes: Sequence[str]) -> list[str]:
    """Name each combination of attributes, such as 'Smiling, not Male'; class 1 has the first alone."""
    return [
        ", ".join(name if label >> i & 1 else f"not {name}" for i, name in enumerate(attributes))
        for label in range(2 ** len(attributes) if attributes else 0)
    ]


def _labels(cfg: DataConfig, layout: Layout, paths: list[Path]) -> np.ndarray:
    """The class of each image [N] int64: the sum of 2^i over the attributes i that it has."""
    words = f"data.attributes={','.join(cfg.attributes)}"
    if layout.attributes is None:
        raise UserError(
            f"{words}: no {ATTRIBUTES}.txt or .csv beside {layout.images}; {SITE} has it"
        )
    names, rows = _table(layout.attributes)
    for name in cfg.attributes:
        if name not in names:
            raise UserError(f"{words}: {explain_unknown_name('attribute', name, names)}")
    if len(set(cfg.attributes)) < len(cfg.attributes) or len(cfg.attributes) > MOST:
        raise UserError(f"{words}: each once, and at most {MOST} of them")
    missing = [path.name for path in paths if path.name not in rows]
    if missing:
        raise UserError(
            f"{layout.attributes} says nothing about {missing[0]} and {len(missing) - 1:,} others"
        )
    columns = [names.index(name) for name in cfg.attributes]
    has = np.array([[int(rows[path.name][column]) > 0 for column in columns] for path in paths])
    return has @ (1 << np.arange(len(columns), dtype=np.int64))


def _split(
    layout: Layout, paths: list[Path], labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows for training and those held out; of these the places that are for validation, where the authors say."""
    if layout.partition is not None:
        _, rows = _table(layout.partition)
        part = np.array([int(rows.get(path.name, ["-1"])[0]) for path in paths])
        train, held, validation = (
            np.flatnonzero(which) for which in (part == 0, part > 0, part[part > 0] == 1)
        )
        if len(train) and 0 < len(validation) < len(held):
            return train, held, validation
        if len(train) and len(held):
            return train, held, None
    return *decoding.split(len(paths), labels), None


def _table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The columns' names and the rows by file name: of the authors' .txt (words; in the list of attributes first the
    count and the names), or of Kaggle's .csv. Raises UserError for a file that is neither."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    comma = "," if path.suffix == ".csv" else None
    split = [[word.strip() for word in line.split(comma)] for line in lines if line.strip()]
    try:
        if comma:
            names, split = split[0][1:], split[1:]
        elif len(split[0]) == 1:
            names, split = split[1], split[2:]
        else:
            names = [str(i) for i in range(len(split[0]) - 1)]
        if any(len(words) != len(names) + 1 for words in split):
            raise IndexError
        int(split[0][1])
    except (IndexError, ValueError):
        raise UserError(f"{path} is not a table of CelebA") from None
    return names, {words[0]: words[1:] for words in split}


def _layout(root: Path) -> Layout | None:
    """The first place that holds images under one of the known names; images beside the attribute file are one too."""
    for base in (root / "celeba", root / "CelebA", root / "celeba" / "celeba", root):
        for name in (f"{IMAGES}/{IMAGES}", IMAGES, "images", "."):
            folder = base / name
            near = [folder, folder.parent, folder.parent.parent] if name != "." else [folder]
            attributes, partition = _find_beside(near, ATTRIBUTES), _find_beside(near, PARTITION)
            if name in (".", "images") and attributes is None:
                continue
            if folder.is_dir() and any(
                path.suffix.lower() in SUFFIXES for path in folder.iterdir()
            ):
                return Layout(folder, attributes, partition)
    return None


def _find_beside(folders: list[Path], stem: str) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for folder in folders for suffix in (".txt", ".csv"))
    return next((path for path in candidates if path.is_file()), None)


def is_present(root: Path) -> bool:
    """True if CelebA, or its archive, lies in a folder."""
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
    """Make sure that CelebA is in ``root``, unpacking or downloading it if need be; otherwise say why not."""
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
    if problem:  # mirrors have another archive with the same images
        mirrored = download.fetch(MIRRORS, images)
        problem = mirrored and f"{problem}; {mirrored}"
    if problem:
        further = download.fetch(BUNDLES, home / "celeba.zip")
        problem = (
            f"CelebA is not in {root} and the downloads failed ({problem}; {further})"
            if further
            else ""
        )
        return home / "celeba.zip", problem
    for name in (ATTRIBUTES, PARTITION):  # without them there are no classes, and the split is ours
        download.fetch(
            (ON_DRIVE[f"{name}.txt"],),
            home / f"{name}.txt",
            archive=False,
            sha256=SHA256[f"{name}.txt"],
        )
    return images, ""
