"""CIFAR-10 (Krizhevsky 2009): color images of ten classes, 50,000 for training, 10,000 for testing.

``data.root`` contains cifar-10-batches-bin or its archive, or it is downloaded; there is no sample.
torchvision reads only the Python version, which consists of pickles, so this reads the binary
version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import download
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once, file_hash
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError

ARCHIVE_URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
# Hash of the archive.
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ARCHIVE_FOLDER = "cifar-10-batches-bin"
PART_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILE_SIZE_PX = 32
# The default of data.size.
SIZE = 32
LAYOUT = f"{ARCHIVE_FOLDER} with data_batch_1.bin and so on, or {Path(ARCHIVE_URLS[0]).name}"
SAMPLE, DOWNLOADS = "", True


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the whole set. Raises UserError if it cannot be found or downloaded."""
    root = Path(cfg.root)
    problem = "there is no sample" if cfg.source == "sample" else find_full(root)
    if problem:
        raise UserError(f"data.name=cifar10: {problem}. Download {ARCHIVE_URLS[0]} into {root}.")
    folder = _find_folder(root)
    assert folder is not None
    files = [folder / name for names in PART_FILES.values() for name in names]
    arrays, fingerprint = decoded_once(
        root,
        f"cifar10-{cfg.size}",
        f"{file_hash(files)}/{cfg.size}/1",
        lambda: _arrays(folder, cfg.size),
    )
    train, test = ((arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in PART_FILES)
    count = len(train[0]) + len(test[0])
    about = (
        f"{count:,} images of CIFAR-10 ({len(train[0]):,} train, {len(test[0]):,} held out) "
        f"from {folder}"
    )
    spec = ImageSpec(3, cfg.size, cfg.size, classes=len(CLASSES))
    return ArrayDataset(spec, *train, *test, "full", about, fingerprint, class_names=CLASSES)


def _find_folder(root: Path) -> Path | None:
    """Find the folder with all six files: the root, or ``ARCHIVE_FOLDER`` in it."""
    names = [name for part in PART_FILES.values() for name in part]
    for folder in (root / ARCHIVE_FOLDER, root):
        if all((folder / name).is_file() for name in names):
            return folder
    return None


def is_present(root: Path) -> bool:
    """True if a folder contains the set or its archive."""
    return _find_folder(root) is not None or (root / Path(ARCHIVE_URLS[0]).name).is_file()


def find_full(root: Path) -> str:
    """Unpack or download the set into ``root`` if needed; return '' or why it is missing."""
    return download.provide(
        root, _find_folder, lambda: _archive(root), root, "cifar10", ARCHIVE_FOLDER
    )


def _archive(root: Path) -> tuple[Path, str]:
    archive = root / Path(ARCHIVE_URLS[0]).name
    problem = download.fetch(ARCHIVE_URLS, archive, sha256=SHA256)
    return archive, problem and f"CIFAR-10 is not in {root} and the download failed ({problem})"


def _arrays(folder: Path, size: int) -> Arrays:
    """Read records of a label and 3 x 32 x 32 pixels. Raises UserError for a truncated file."""
    arrays: Arrays = {}
    for part, names in PART_FILES.items():
        content = np.concatenate([np.fromfile(folder / name, np.uint8) for name in names])
        record = 1 + 3 * FILE_SIZE_PX * FILE_SIZE_PX
        if not len(content) or len(content) % record:
            raise UserError(
                f"{folder} is damaged: the {len(content):,} bytes of {part} are not a multiple of "
                f"the record size, {record}. Delete it and unpack the archive again."
            )
        rows = content.reshape(-1, record)
        images = np.ascontiguousarray(rows[:, 1:]).reshape(-1, 3, FILE_SIZE_PX, FILE_SIZE_PX)
        arrays |= {
            f"{part}_images": resize(images, size),
            f"{part}_labels": rows[:, 0].astype(np.int64),
        }
    return arrays
