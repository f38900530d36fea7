"""Any data set in MNIST's file format: Fashion-MNIST, KMNIST, or your own.

``data.root`` contains four files, gzipped or not: train-images-idx3-ubyte, train-labels-idx1-ubyte
and the same with t10k, the test set.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import USER_DATA_CACHE, Arrays, decoded_once, file_hash
from gan_lab.data.folder import check_held_out_classes
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError

PART_FILES = {
    "train": ("train-images-idx3", "train-labels-idx1"),
    "test": ("t10k-images-idx3", "t10k-labels-idx1"),
}
FILE_NAMES = [name for pair in PART_FILES.values() for name in pair]
# The default of data.size.
SIZE = 28
# Names of data sets by the SHA-256 of their gzipped training images.
DATASETS_BY_SHA256 = {
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609": "MNIST",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": "Fashion-MNIST",
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4": "KMNIST",
}


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set in the folder. Raises UserError if one of its files is missing or invalid."""
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: data.name=idx has no sample. Set data.root to a folder with the "
            "four files."
        )
    sets = find_sets(Path(cfg.root))
    complete = [folder for folder, files in sets.items() if len(files) == len(FILE_NAMES)]
    if len(complete) > 1:
        shown = ", ".join(str(folder.relative_to(cfg.root)) for folder in complete)
        raise UserError(
            f"data.root={cfg.root} contains {len(complete)} data sets: {shown}. Set data.root to "
            "one of these folders."
        )
    files = find_files(Path(cfg.root))
    missing = [name for name in FILE_NAMES if name not in files]
    if missing:
        raise UserError(
            f"data.root={cfg.root} does not contain {missing[0]}-ubyte or {missing[0]}-ubyte.gz. "
            f"Add the four files {', '.join(f'{name}-ubyte' for name in FILE_NAMES)} to one folder."
        )
    published_name = find_published_name(files)
    arrays, fingerprint = decoded_once(
        USER_DATA_CACHE,
        f"idx-{cfg.size}",
        f"{file_hash(files[name] for name in FILE_NAMES)}/{cfg.size}/2",
        lambda: _arrays(files, cfg.size),
    )
    train, test = ((arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in PART_FILES)
    what = f"images of {published_name}" if published_name else "images"
    about = f"{len(train[0]):,} {what} (MNIST format) from {cfg.root}, {len(test[0]):,} held out"
    names, (train_labels, test_labels) = close_gaps(train[1], test[1], cfg.labels)
    copies = decoding.describe_copies(arrays["_train_digests"], arrays["_test_digests"])
    content = "digits" if published_name == "MNIST" else "photos"
    spec = ImageSpec(1, cfg.size, cfg.size, classes=len(names), content=content)  # type: ignore[arg-type]
    return ArrayDataset(
        spec,
        *(train[0], train_labels, test[0], test_labels),
        source="full",
        about=about + copies,
        fingerprint=fingerprint,
        class_names=names,
    )


def find_files(root: Path) -> dict[str, Path]:
    """Find the four files in the folder that has most of them; unpacked files take precedence."""
    return max(find_sets(root).values(), key=len, default={})


def find_sets(root: Path) -> dict[Path, dict[str, Path]]:
    """Find the files of data sets by their folder, at any depth."""
    found: dict[Path, dict[str, Path]] = {}
    if not root.is_dir():
        return found
    for path in sorted(root.rglob("*ubyte*"), key=lambda path: (path.suffix == ".gz", path)):
        for name in FILE_NAMES:
            if path.name in (f"{name}-ubyte", f"{name}-ubyte.gz", f"{name}.ubyte"):
                found.setdefault(path.parent, {}).setdefault(name, path)
    return found


def close_gaps(
    train: np.ndarray, test: np.ndarray, is_used: bool
) -> tuple[list[str], tuple[np.ndarray, np.ndarray]]:
    """Number labels 0..K-1, since those of EMNIST's letters are 1..26.

    Args:
        train: The labels of the training images.
        test: The labels of the test images.
        is_used: ``data.labels``; without it, no label needs a training image.

    Returns:
        The names of the classes, which are the numbers in the files, and the labels of both parts.

    Raises:
        UserError: A test label has no training image.
    """
    values, numbers = np.unique(np.concatenate([train, test]), return_inverse=True)
    names = [str(value) for value in values]
    rows = np.arange(len(numbers))
    if is_used:
        check_held_out_classes(names, numbers, rows[: len(train)], rows[len(train) :])
    return names, (numbers[: len(train)], numbers[len(train) :])


def find_published_name(files: dict[str, Path]) -> str:
    """Return the name of the published set that the gzipped files belong to, or ''."""
    images = files.get(FILE_NAMES[0])
    if images is None:
        return ""
    for path in (images, Path(f"{images}.gz")):
        if path.suffix == ".gz" and path.is_file():
            return DATASETS_BY_SHA256.get(file_hash([path]), "")
    return ""


def _arrays(files: dict[str, Path], size: int) -> Arrays:
    arrays: Arrays = {}
    for part in PART_FILES:
        pixels, numbers = read_part(files, part)
        arrays |= {
            f"{part}_images": resize(pixels[:, None], size),
            f"{part}_labels": numbers.astype(np.int64),
            f"_{part}_digests": decoding.hash_rows(pixels),
        }
    return arrays


def read_part(files: Mapping[str, Path], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images [N, H, W] and labels [N] of the part ``train`` or ``test``, both uint8.

    Raises:
        UserError: A file is damaged, or the two do not match.
    """
    images, labels = (files[name] for name in PART_FILES[part])
    pixels, numbers = read_array(images), read_array(labels)
    if pixels.ndim != 3 or numbers.ndim != 1 or len(pixels) != len(numbers):
        raise UserError(
            f"{images} and {labels} are not images [N, H, W] and labels [N]: their shapes are "
            f"{pixels.shape} and {numbers.shape}. Replace them."
        )
    return pixels, numbers


def read_array(path: Path) -> np.ndarray:
    """Read an array of unsigned bytes of any shape from a file that may be gzipped.

    torchvision's reader does not read gzipped files, and fails with an assertion for damaged ones.

    The format, from LeCun's page of MNIST: two zero bytes, 8 for unsigned bytes, the number of
    dimensions, then their sizes as big-endian 32-bit integers.

    Raises:
        UserError: The file has another format, or is too short or too long.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}). Download it again.") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"{path} is not a file of unsigned bytes in MNIST's format. Replace it.")
    dimensions = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4"))
    body = np.frombuffer(content[4 + 4 * dimensions :], np.uint8)
    if len(shape) != dimensions or body.size != int(np.prod(shape, dtype=np.int64)):
        raise UserError(
            f"{path} is damaged: it contains {body.size:,} bytes, but its header has the shape "
            f"{shape}. Download it again."
        )
    return body.reshape(shape)
