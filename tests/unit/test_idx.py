"""MNIST's file format and CIFAR-10's records: their values, and errors for truncated files."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gan_lab import data as data_sets
from gan_lab.config.schema import DataConfig
from gan_lab.data import cifar10, download, idx, mnist
from gan_lab.data.cache import file_hash


def packed(array: np.ndarray) -> bytes:
    """An array of bytes as LeCun's files have it."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """Sixty images for training and twenty held out, of four classes, some packed and some not."""
    rng, raw = np.random.default_rng(0), tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 60), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 4
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed(images), mtime=0))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(packed(labels))
    return tmp_path


def load(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch, **keys: object
) -> data_sets.GANDataModule:
    monkeypatch.setenv("GAN_LAB_CACHE", str(root / "cache"))
    return data_sets.load(DataConfig(name=name, root=str(root), size=28, **keys), 0)  # type: ignore[arg-type]


def test_any_set_in_mnists_format_is_read_as_what_it_is(
    clothes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = load(clothes, "idx", monkeypatch)
    assert served.decoded.about == f"60 images (MNIST format) from {clothes}, 20 held out"
    assert (served.spec.content, served.spec.classes, len(served.validation), len(served.test)) == (
        "photos",
        4,
        10,
        10,
    )
    raw = clothes / "FashionMNIST" / "raw"
    images = np.frombuffer(
        gzip.decompress((raw / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8
    )
    assert np.array_equal(np.asarray(served.decoded.train_images).reshape(-1), images)
    monkeypatch.setitem(
        idx.DATASETS_BY_SHA256, file_hash([raw / "train-images-idx3-ubyte.gz"]), "Fashion-MNIST"
    )
    assert load(clothes, "idx", monkeypatch).decoded.about.startswith(
        "60 images of Fashion-MNIST (MNIST format)"
    )


def test_a_set_of_another_name_in_mnists_place_is_named_and_not_scored_as_digits(
    clothes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clothes / "FashionMNIST").rename(clothes / "MNIST")
    images = clothes / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    monkeypatch.setitem(idx.DATASETS_BY_SHA256, file_hash([images]), "Fashion-MNIST")
    monkeypatch.setattr(mnist, "_measure_digit_accuracy", lambda *_: 0.9)  # it looks like digits
    with pytest.warns(UserWarning, match="are not MNIST: a digit classifier"):
        served = load(clothes, "mnist", monkeypatch)
    assert served.spec.content == "photos"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a file of unsigned bytes in MNIST's format"),
        (b"<html>", "is not a file of unsigned bytes in MNIST's format"),
        (
            packed(np.zeros((3, 4)))[:-1],
            r"is damaged: it contains 11 bytes, but its header has the shape \(3, 4\)",
        ),
        (
            packed(np.zeros(5)) + b"x",
            r"is damaged: it contains 6 bytes, but its header has the shape \(5,\)",
        ),
        (
            bytes([0, 0, 8, 3]) + b"\xff" * 12,
            "is damaged: it contains 0 bytes, but its header has the shape",
        ),
    ],
)
def test_a_file_that_is_something_else_or_cut_off_is_one_line(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        idx.read_array(path)


def test_what_is_missing_is_named(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clothes / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="does not contain t10k-labels-idx1-ubyte or"):
        load(clothes, "idx", monkeypatch)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """The archive of CIFAR-10 with ten records in each file: label, then red, green and blue."""
    rng, folder = np.random.default_rng(0), tmp_path / "made" / cifar10.ARCHIVE_FOLDER
    folder.mkdir(parents=True)
    for names in cifar10.PART_FILES.values():
        for name in names:
            records = rng.integers(0, 256, (10, 3073), dtype=np.uint8)
            records[:, 0] = np.arange(10)
            records[0, 1:] = np.repeat([200, 100, 50], 1024)
            (folder / name).write_bytes(records.tobytes())
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-binary.tar.gz", "w:gz") as packed_set:
        packed_set.add(folder, cifar10.ARCHIVE_FOLDER)
    return root


def test_cifar10_is_unpacked_verified_and_read_channel_by_channel(
    tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match=r"differs from the published file \(SHA-256 c4a38c50a1bc"):
        served = load(tape, "cifar10", monkeypatch)
    assert served.spec.shape == (3, 28, 28)
    assert served.class_names[3] == "cat"
    monkeypatch.setattr(cifar10, "SHA256", file_hash([tape / "cifar-10-binary.tar.gz"]))
    again = data_sets.load(DataConfig(name="cifar10", root=str(tape), size=32), 0)
    first = np.asarray(again.decoded.train_images[0])
    assert [set(channel.reshape(-1).tolist()) for channel in first] == [{200}, {100}, {50}]
    assert np.asarray(again.decoded.train_labels)[:10].tolist() == list(range(10))


def test_cifar10_that_is_cut_off_or_nowhere_says_what_to_put_where(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "SHA256", "")
    assert cifar10.find_full(tape) == ""
    with (tape / cifar10.ARCHIVE_FOLDER / "test_batch.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        ValueError, match="30,731 bytes of test are not a multiple of the record size, 3073"
    ):
        load(tape, "cifar10", monkeypatch)
    monkeypatch.setattr(download, "is_reachable", lambda url: False)
    with pytest.raises(ValueError, match=r"the download failed .* Download https://"):
        data_sets.load(
            DataConfig(name="cifar10", root=str(tmp_path / "empty"), source="full", size=32), 0
        )


def write_sets(root: Path, *parts: str, labels: int = 3, first: int = 0) -> None:
    """Write the train or t10k files of a set into folders such as a:train."""
    for number, part in enumerate(parts):
        place, _, names = part.partition(":")
        for name, n in (("train", 60), ("t10k", 30)):
            if name in (names or "train t10k"):
                folder = root / place
                folder.mkdir(parents=True, exist_ok=True)
                images = np.random.default_rng(number).integers(256, size=(n, 28, 28))
                (folder / f"{name}-images-idx3-ubyte").write_bytes(packed(images))
                numbers = np.arange(n) % labels + first
                (folder / f"{name}-labels-idx1-ubyte").write_bytes(packed(numbers))


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [(("b", "a:train"), 0), (("b:train", "a"), 1), (("a:t10k", "b/c", "d:train"), 1)],
)
def test_idx_reads_the_four_files_of_one_folder(
    parts: tuple[str, ...], chosen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the training images of one set and the test images of another."""
    write_sets(tmp_path / "root", *parts)
    served = load(tmp_path / "root", "idx", monkeypatch)
    images = np.random.default_rng(chosen).integers(256, size=(60, 28, 28))
    assert np.array_equal(np.asarray(served.decoded.train_images)[:, 0], images)


@pytest.mark.parametrize("parts", [("a", "b"), ("b", "", "a:train"), ("x/y", "x/z", "w")])
def test_idx_with_several_sets_is_a_question(
    parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folders."""
    write_sets(tmp_path, *parts)
    with pytest.raises(ValueError, match=r"contains [23] data sets: .*\. Set data\.root to one"):
        load(tmp_path, "idx", monkeypatch)


def test_idx_with_the_files_in_two_folders_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be of two sets."""
    write_sets(tmp_path, "a:train", "b:t10k")
    with pytest.raises(ValueError, match=r"Add the four files .* to one folder"):
        load(tmp_path, "idx", monkeypatch)


@pytest.mark.parametrize("name", ["idx", "mnist"])
@pytest.mark.parametrize(("first", "labels"), [(1, 26), (5, 2), (100, 3)])
@pytest.mark.filterwarnings("ignore:.*are not MNIST")
def test_idx_closes_gaps_in_the_labels(
    name: str, first: int, labels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMNIST's letters are 1..26: the classes are named so, and numbered from 0."""
    write_sets(tmp_path, "MNIST/raw", labels=labels, first=first)
    monkeypatch.setattr(mnist, "_measure_digit_accuracy", lambda *_: 0.1)
    served = load(tmp_path, name, monkeypatch)
    assert served.class_names == [str(first + i) for i in range(labels)]
    assert served.train.labels is not None
    assert np.array_equal(np.unique(served.train.labels), np.arange(labels))


def test_idx_with_a_label_in_test_only_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the label."""
    write_sets(tmp_path, "raw")
    (tmp_path / "raw" / "t10k-labels-idx1-ubyte").write_bytes(packed(np.arange(30) % 4 + 4))
    with pytest.raises(ValueError, match="no training image has the class 4, 5, 6, 7, but held"):
        load(tmp_path, "idx", monkeypatch)
    assert load(tmp_path, "idx", monkeypatch, labels=False).spec.classes == 0


@pytest.mark.parametrize("copies", [0, 7])
def test_idx_with_copies_in_test_says_so(
    copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As folders of images do."""
    write_sets(tmp_path, "raw:train", "raw:t10k")
    path = tmp_path / "raw" / "t10k-images-idx3-ubyte"
    images = idx.read_array(path).copy()
    images[:copies] = idx.read_array(tmp_path / "raw" / "train-images-idx3-ubyte")[:copies]
    path.write_bytes(packed(images))
    about = load(tmp_path, "idx", monkeypatch).facts.about
    assert (f"; {copies} of 30 held-out images are exact copies" in about) == (copies > 0)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.filterwarnings("ignore:.*are not MNIST")
def test_mnist_in_a_read_only_folder_is_read(
    gzipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a lock, nor unpacked files, nor the cache are written into it."""
    root = tmp_path / "root"
    write_sets(root, "MNIST/raw", labels=10)
    if gzipped:
        for path in [*(root / "MNIST" / "raw").iterdir()]:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    monkeypatch.delenv("GAN_LAB_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != root and access(path, mode))
    monkeypatch.setattr(mnist, "FileLock", lambda path: pytest.fail("a lock was written"))
    before = sorted(root.rglob("*"))
    served = data_sets.load(DataConfig(name="mnist", root=str(root), source="full"), 0)
    assert len(served.train) == 60
    assert sorted(root.rglob("*")) == before
    assert (tmp_path / "data" / "cache").is_dir()


def test_mnist_that_cannot_be_downloaded_into_a_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only folder without the files: the sample stands in, or full says why."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(mnist, "FileLock", refuse)
    monkeypatch.setattr(mnist, "is_reachable", lambda url: True)
    with pytest.raises(ValueError, match=r"MNIST is not in .* and cannot be downloaded into it"):
        mnist.decode(DataConfig(root=str(tmp_path), source="full"))
