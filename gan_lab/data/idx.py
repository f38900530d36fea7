"""Any data set in MNIST's file format: Fashion-MNIST, KMNIST, or your own.

Four files under ``data.root``: train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k, gzipped or not.
t10k is the test set.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once, file_hash
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError

PARTS = {
    "train": ("train-images-idx3", "train-labels-idx1"),
    "test": ("t10k-images-idx3", "t10k-labels-idx1"),
}
NAMES = [name for pair in PARTS.values() for name in pair]
# The default of data.size.
SIZE = 28
# Names of data sets by the SHA-256 of their gzipped training images.
PUBLISHED = {
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609": "MNIST",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": "Fashion-MNIST",
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4": "KMNIST",
}


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set in the folder. Raises UserError if one of its four files is missing or has another content."""
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: data.name=idx has no sample, data.root names a folder of four files"
        )
    files = find(Path(cfg.root))
    missing = [name for name in NAMES if name not in files]
    if missing:
        raise UserError(
            f"data.root={cfg.root} holds no {missing[0]}-ubyte, packed (.gz) or not: there should be four such files"
        )
    name = published(files) or "a set"
    root = Path("data")
    arrays, fingerprint = decoded_once(
        root,
        f"idx-{cfg.size}",
        f"{file_hash(files[name] for name in NAMES)}/{cfg.size}/1",
        lambda: _arrays(files, cfg.size),
    )
    train, test = ((arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in PARTS)
    about = f"{len(train[0]):,} images of {name} in MNIST's format, {len(test[0]):,} held out: found in {cfg.root}"
    classes = int(max(train[1].max(), test[1].max())) + 1
    content = "digits" if name == "MNIST" else "photos"
    spec = ImageSpec(1, cfg.size, cfg.size, classes=classes, content=content)  # type: ignore[arg-type]
    return ArrayDataset(spec, *train, *test, "full", about, fingerprint)


def find(root: Path) -> dict[str, Path]:
    """Find the four files anywhere under a folder; an unpacked file takes precedence over a gzipped one."""
    found: dict[str, Path] = {}
    for path in (
        sorted(root.rglob("*ubyte*"), key=lambda path: path.suffix == ".gz")
        if root.is_dir()
        else ()
    ):
        for name in NAMES:
            if path.name in (f"{name}-ubyte", f"{name}-ubyte.gz", f"{name}.ubyte"):
                found.setdefault(name, path)
    return found


def published(files: dict[str, Path]) -> str:
    """Return the name of the published set that the gzipped files belong to, or ''."""
    images = files.get(NAMES[0])
    packed = images and next(
        (
            path
            for path in (images, Path(f"{images}.gz"))
            if path.suffix == ".gz" and path.is_file()
        ),
        None,
    )
    return PUBLISHED.get(file_hash([packed]), "") if packed else ""


def _arrays(files: dict[str, Path], size: int) -> Arrays:
    arrays: Arrays = {}
    for part, (images, labels) in PARTS.items():
        pixels, numbers = read(files[images]), read(files[labels])
        if pixels.ndim != 3 or numbers.ndim != 1 or len(pixels) != len(numbers):
            raise UserError(
                f"{files[images]} and {files[labels]} are no images and their labels: {pixels.shape} and {numbers.shape}"
            )
        arrays |= {
            f"{part}_images": resize(pixels[:, None], size),
            f"{part}_labels": numbers.astype(np.int64),
        }
    return arrays


def read(path: Path) -> np.ndarray:
    """Read an array of unsigned bytes, of any number of dimensions, from a file that may be gzipped.

    torchvision's reader does not read gzipped files, and fails with an assertion for damaged ones.

    Source: LeCun's page of MNIST: two zero bytes, 8 for unsigned bytes, the number of dimensions, then their sizes as
    big-endian 32-bit integers.

    Raises:
        UserError: The file has another format, or is too short or too long.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error})") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"{path} is no file of unsigned bytes in MNIST's format")
    dimensions = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4"))
    body = np.frombuffer(content[4 + 4 * dimensions :], np.uint8)
    if len(shape) != dimensions or body.size != int(np.prod(shape, dtype=np.int64)):
        raise UserError(f"{path} is damaged: {body.size:,} bytes, its head says {shape}")
    return body.reshape(shape)
