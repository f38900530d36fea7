"""Data sets passed from Python: every kind gives equal pixels; faults are named errors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets as hugging_face
import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, TensorDataset
from torch.utils.data import Subset as TorchSubset
from torchvision import transforms
from torchvision.datasets import MNIST, ImageFolder

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data import from_python
from gan_lab.data.base import GANDataModule
from gan_lab.data.split import Subset
from gan_lab.utils.errors import UserError
from tests.helpers.idx_files import write_idx

COUNT = 40
RNG = np.random.default_rng(0)
GRAY = RNG.integers(256, size=(COUNT, 12, 12), dtype=np.uint8)
COLOR = RNG.integers(256, size=(COUNT, 12, 12, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 4
NAMES = ["bird", "cat", "dog", "fish"]
TENSOR = torch.from_numpy(GRAY)[:, None]


def load(dataset: Any, test: Any = None, **keys: Any) -> GANDataModule:
    return datasets.load(DataConfig(**{"size": 12, **keys}), seed=0, dataset=dataset, test=test)


def pil_images(pixels: np.ndarray = GRAY) -> list[Image.Image]:
    return [Image.fromarray(image) for image in pixels]


def hugging_face_dataset(pixels: np.ndarray = GRAY, labels: np.ndarray = LABELS) -> Any:
    features = {"image": hugging_face.Image(), "label": hugging_face.ClassLabel(names=NAMES)}
    columns = {"image": pil_images(pixels), "label": labels.tolist()}
    return hugging_face.Dataset.from_dict(columns, features=hugging_face.Features(features))


def idx_dataset(root: Path, transform: Any = None) -> MNIST:
    write_idx(root / "MNIST" / "raw", GRAY, LABELS, GRAY[:2], LABELS[:2])
    return MNIST(str(root), train=True, transform=transform)


def pixels_of(subset: Subset) -> list[bytes]:
    return [image.tobytes() for image in subset.images[np.arange(len(subset))]]


KINDS: dict[str, Callable[[Path], Any]] = {
    "arrays [N, H, W]": lambda _: (GRAY, LABELS),
    "arrays [N, H, W, 1]": lambda _: (GRAY[..., None], LABELS),
    "arrays [N, 1, H, W]": lambda _: (GRAY[:, None], LABELS.tolist()),
    "tensors": lambda _: (TENSOR, torch.from_numpy(LABELS)),
    "floats in [0, 1]": lambda _: (TENSOR.float() / 255, torch.from_numpy(LABELS)),
    "floats in [-1, 1]": lambda _: (GRAY.astype(np.float64) / 127.5 - 1, LABELS),
    "TensorDataset": lambda _: TensorDataset((TENSOR / 255 - 0.5) / 0.5, torch.from_numpy(LABELS)),
    "Subset of a ConcatDataset": lambda _: TorchSubset(
        ConcatDataset([list(zip(pil_images(), LABELS, strict=True))]), range(COUNT)
    ),  # type: ignore[list-item]
    "list of (PIL, label)": lambda _: list(zip(pil_images(), LABELS.tolist(), strict=True)),
    "list of (array, [label])": lambda _: list(zip(GRAY, LABELS[:, None], strict=True)),
    "dicts": lambda _: [
        {"pixel_values": image, "labels": label} for image, label in zip(GRAY, LABELS, strict=True)
    ],
    "torchvision": idx_dataset,
    "torchvision with ToTensor": lambda root: idx_dataset(root, transforms.ToTensor()),
    "torchvision with Normalize": lambda root: idx_dataset(
        root, transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    ),
    "Hugging Face": lambda _: hugging_face_dataset(),
    "Hugging Face, img": lambda _: hugging_face_dataset().rename_column("image", "img"),
    "Hugging Face, tensors": lambda _: hugging_face_dataset().with_format("torch"),
    "DatasetDict": lambda _: hugging_face.DatasetDict({"train": hugging_face_dataset()}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pixels_of_every_kind_have_the_same_fingerprint(kind: str, tmp_path: Path) -> None:
    data, expected = load(KINDS[kind](tmp_path)), load((GRAY, LABELS))
    assert data.facts.fingerprint == expected.facts.fingerprint
    assert data.spec == expected.spec
    assert (data.spec.shape, data.spec.classes) == ((1, 12, 12), 4)
    label_of = {image.tobytes(): label for image, label in zip(GRAY, LABELS, strict=True)}
    for split in ("train", "validation", "test"):
        subset = data.subset(split)
        assert subset.labels is not None
        assert [label_of[image] for image in pixels_of(subset)] == subset.labels.tolist()


@pytest.mark.parametrize("change", ["pixel", "label", "order", "split"])
def test_other_data_have_another_fingerprint(change: str) -> None:
    pixels, labels = GRAY.copy(), LABELS.copy()
    if change == "pixel":
        pixels[7, 3, 3] ^= 1
    elif change == "label":
        labels[[0, 1]] = labels[[1, 0]]
    elif change == "order":
        pixels[[0, 4]] = pixels[[4, 0]]
    test = (GRAY, LABELS) if change == "split" else None
    assert (
        load((pixels, labels), test=test).facts.fingerprint
        != load((GRAY, LABELS)).facts.fingerprint
    )


def test_a_tenth_is_held_out_by_class_and_no_image_is_on_both_sides() -> None:
    data = load((np.concatenate([GRAY, 255 - GRAY]), np.tile(LABELS, 2)))
    assert dict(data.facts.counts) == {"train": 72, "learned": 72, "validation": 4, "test": 4}
    assert np.bincount(data.train.labels).tolist() == [18] * 4  # type: ignore[arg-type]
    assert sorted(data.held_out.labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]  # type: ignore[union-attr]
    train, held_out = set(pixels_of(data.train)), set(pixels_of(data.held_out))
    assert len(train) == 72
    assert len(held_out) == 8
    assert not train & held_out
    assert not set(pixels_of(data.validation)) & set(pixels_of(data.test))


def test_splits_of_a_dict_are_kept() -> None:
    parts = {"test": slice(0, 8), "validation": slice(8, 12), "train": slice(12, 40)}
    made = hugging_face.DatasetDict(
        {name: hugging_face_dataset(GRAY[rows], LABELS[rows]) for name, rows in parts.items()}
    )
    data = load(made)
    for name, rows in parts.items():
        assert pixels_of(data.subset(name)) == [image.tobytes() for image in GRAY[rows]]
        assert data.subset(name).labels.tolist() == LABELS[rows].tolist()  # type: ignore[union-attr]
    assert data.class_names == NAMES


def test_test_is_held_out_and_halved() -> None:
    data = load((GRAY[:30], LABELS[:30]), test=(GRAY[30:], LABELS[30:]))
    assert pixels_of(data.train) == [image.tobytes() for image in GRAY[:30]]
    held_out = pixels_of(data.validation) + pixels_of(data.test)
    assert sorted(held_out) == sorted(image.tobytes() for image in GRAY[30:])
    assert len(data.validation) == 5


def test_gaps_between_labels_are_closed_and_names_are_kept(tmp_path: Path) -> None:
    for folder, value in (("ant", 10), ("bee", 60), ("cow", 110), ("elk", 160)):
        (tmp_path / folder).mkdir()
        for i in range(6):
            Image.new("RGB", (12, 12), (value, 0, i)).save(tmp_path / folder / f"{i}.png")
    folder_data = ImageFolder(str(tmp_path))
    kept = [row for row, (_, label) in enumerate(folder_data.samples) if label != 1]
    data = load(TorchSubset(folder_data, kept))
    assert data.class_names == ["ant", "cow", "elk"]
    red = {10: 0, 110: 1, 160: 2}
    images = data.train.images[np.arange(len(data.train))]
    assert [red[int(image[0, 0, 0])] for image in images] == data.train.labels.tolist()  # type: ignore[union-attr]
    assert load((GRAY, LABELS * 5 + 3)).class_names == ["3", "8", "13", "18"]


def test_one_class_is_no_labeling_and_labels_can_be_hidden() -> None:
    assert load((GRAY, LABELS * 0 + 5)).spec.classes == 0
    attributes = [(image, torch.zeros(40)) for image in pil_images()]
    assert load(attributes, labels=False).spec.classes == 0
    assert load(pil_images()).facts.fingerprint == load(GRAY).facts.fingerprint


def test_images_are_resized_as_those_of_a_folder(tmp_path: Path) -> None:
    sizes = [(20, 12), (12, 30), (40, 40), (7, 9)] * 3
    images = [Image.fromarray(RNG.integers(256, size=(h, w, 3), dtype=np.uint8)) for h, w in sizes]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number:02}.png")
    for fit in ("crop", "pad", "stretch"):
        folder = datasets.load(
            DataConfig(name="folder", root=str(tmp_path), size=8, width=10, fit=fit), 0
        )  # type: ignore[arg-type]
        data = load(images, size=8, width=10, fit=fit)
        assert data.spec == folder.spec
        for split in ("train", "validation", "test"):
            assert pixels_of(data.subset(split)) == pixels_of(folder.subset(split))
    assert "9 center-cropped" in load(images, size=8).facts.about


def test_color_is_kept_as_soon_as_one_image_has_it() -> None:
    mixed = [*pil_images(), Image.fromarray(COLOR[0])]
    data = load(mixed)
    assert data.spec.channels == 3
    every = pixels_of(data.train) + pixels_of(data.held_out)
    assert COLOR[0].transpose(2, 0, 1).tobytes() in every
    assert GRAY[0][None].repeat(3, axis=0).tobytes() in every
    assert load(mixed, channels=1).spec.channels == 1
    assert load(GRAY, channels=3).spec.channels == 3
    assert load(COLOR).facts.fingerprint == load(COLOR.transpose(0, 3, 1, 2)).facts.fingerprint
    transparent = [Image.new("RGBA", (12, 12), (0, 0, 0, 0))] * 4
    assert set(pixels_of(load(transparent).train)) == {bytes([255]) * 3 * 144}


def test_bright_images_before_the_first_dark_one_have_the_range_of_the_set() -> None:
    ordered = GRAY.copy()
    ordered[:5] = np.maximum(ordered[:5], 128)
    floats = torch.from_numpy(ordered).float() / 127.5 - 1
    assert load(list(floats)).facts.fingerprint == load(ordered).facts.fingerprint


def test_random_transforms_are_called_once_and_the_same_at_each_start(tmp_path: Path) -> None:
    flips = transforms.Compose(
        [
            transforms.RandomCrop(10),
            lambda image: image.rotate(90 * random.randrange(4)),
            lambda image: image.rotate(90 * np.random.randint(4)),
        ]
    )
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate()
    first = load(idx_dataset(tmp_path, flips))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(4)
    random.seed(4)
    np.random.seed(4)
    assert load(idx_dataset(tmp_path, flips)).facts.fingerprint == first.facts.fingerprint


class Counting(Dataset[Any]):
    def __init__(self) -> None:
        self.calls: list[int] = []

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        self.calls.append(index)
        return Image.fromarray(GRAY[index]), int(LABELS[index])


def test_each_item_is_read_once_and_in_order() -> None:
    counting = Counting()
    load(counting)
    assert counting.calls == list(range(COUNT))


def test_pairs_are_read_with_their_direction() -> None:
    dicts = [{"source": a, "target": b} for a, b in zip(GRAY, COLOR, strict=True)]
    tuples = [(Image.fromarray(a), Image.fromarray(b)) for a, b in zip(GRAY, COLOR, strict=True)]
    data = load(dicts)
    assert (data.spec.channels, data.spec.source_channels, data.spec.pairs) == (3, 1, "all")
    assert (
        load(tuples).facts.fingerprint
        == load((GRAY, COLOR)).facts.fingerprint
        == data.facts.fingerprint
    )
    target_of = {
        a.tobytes(): b.transpose(2, 0, 1).tobytes() for a, b in zip(GRAY, COLOR, strict=True)
    }
    for split in ("train", "validation", "test"):
        subset = data.subset(split)
        assert subset.sources is not None
        sources = [source.tobytes() for source in subset.sources[np.arange(len(subset))]]
        assert [target_of[source] for source in sources] == pixels_of(subset)
    back = load(dicts, direction="BtoA")
    assert (back.spec.channels, back.spec.source_channels) == (1, 3)


def test_two_sets_without_pairs_are_a_dict_of_a_and_b() -> None:
    data = load({"A": GRAY[:30], "B": (COLOR, LABELS)})
    assert (data.spec.channels, data.spec.source_channels, data.spec.pairs) == (3, 1, "none")
    assert data.train.sources is not None
    assert (len(data.train), len(data.train.sources)) == (36, 26)
    assert data.spec.classes == 0


def test_the_usual_size_is_that_of_small_square_images() -> None:
    assert from_python.usual_size(GRAY) == from_python.usual_size({"train": (GRAY, LABELS)}) == 12
    assert from_python.usual_size([Image.new("RGB", (640, 480))] * 4) == 64


def test_a_run_has_the_name_python_and_cannot_be_loaded_without_its_data() -> None:
    assert load(GRAY).cfg.name == "python"
    with pytest.raises(
        UserError, match=r"data\.name=python: .* Pass it again: gan_lab\.open_run\(path\)\.restore"
    ):
        datasets.load(DataConfig(name="python"), seed=0)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from GRAY


def with_nan() -> np.ndarray:
    pixels = GRAY.astype(np.float32) / 255
    pixels[3, 0, 0] = np.nan
    return pixels


WRONG: dict[str, tuple[Any, str]] = {
    "iterable": (Stream(), "the type Stream, which cannot be read by index"),
    "generator": ((image for image in GRAY), "the type generator, which cannot be read by index"),
    "streaming": (
        hugging_face_dataset().to_iterable_dataset(),
        "the type IterableDataset, which cannot be read by index",
    ),
    "table": (
        pandas.DataFrame({"image": list(GRAY)}),
        "the type DataFrame, which cannot be read by index",
    ),
    "loader": (DataLoader(list(GRAY)), r"Pass its data set: loader\.dataset"),  # type: ignore[arg-type]
    "path": ("photos", r"'photos' is a path\. Set data\.name=folder and data\.root=photos"),
    "few": (GRAY[:3], "3 images are too few"),
    "none": ([], "the split train has no items"),
    "types": (
        [*GRAY[:3], Image.fromarray(GRAY[3])],
        "image 3 is a PIL image, but image 0 is a NumPy array of uint8",
    ),
    "dtypes": (
        [TENSOR[0], TENSOR[1].float()] * 2,
        "image 1 is a tensor of float32, but image 0 is a tensor of uint8",
    ),
    "forms": ([(GRAY[0], 1), GRAY[1]] * 2, "item 1 has no label, but item 0 has one"),
    "nothing": ([None] * 4, "item 0 has the type NoneType, which is no image"),
    "number": (list(range(4)), "item 0 has the type int, which is no image"),
    "three parts": ([(GRAY[0], 1, 2)] * 4, "item 0 has 3 parts"),
    "keys": ([{"photo": GRAY[0]}] * 4, "item 0 has the keys photo. Name the image image"),
    "float label": ((GRAY, LABELS + 0.5), "the label of item 0 is 0.5, not an integer"),
    "text label": (
        (GRAY, ["cat"] * COUNT),
        r"the label of item 0 is 'cat', not an integer\. Number texts with dataset\.class_encode",
    ),
    "one-hot label": (
        (GRAY, np.eye(COUNT)),
        r"the label of item 0 is an array of the shape \[40\], not an integer",
    ),
    "unknown label": ((GRAY, LABELS - 1), "the label of item 0 is -1"),
    "too few labels": ((GRAY, LABELS[:5]), "40 images and 5 labels"),
    "NaN": (with_nan(), "image 3 has NaN or Inf pixels"),
    "0 to 255": (
        GRAY.astype(np.float32),
        r"values from .* to 2\d\d, neither \[0, 1\] nor \[-1, 1\]",
    ),
    "standardized": ((TENSOR / 255 - 0.13) / 0.31, r"neither \[0, 1\] nor"),
    "centered": (TENSOR / 255 - 0.5, r"values from -0\.5 to 0\.5: not clearly \[-1, 1\]"),
    "scaled twice": (TENSOR.float() / 255 / 255, "so they would be black"),
    "masks": ((GRAY > 128).astype(np.uint8), "so they would be black. Multiply them by 255"),
    "int64": (GRAY.astype(np.int64), "image 0 is a NumPy array of int64. Pass uint8"),
    "16 bits": (
        [Image.fromarray(GRAY[0].astype(np.uint16) * 257)] * 4,
        "image 0 has more than 8 bits per channel",
    ),
    "vectors": (GRAY.reshape(COUNT, -1), r"an array of the shape \[40, 144\]"),
    "one image": (
        COLOR[0],
        r"image 0 has the shape \[12, 3\]: a gray image 3 pixels wide, or pixels of 3 channels",
    ),
    "two channels": (
        np.zeros((4, 2, 12, 12), np.uint8),
        r"image 0 has the shape \[2, 12, 12\]\. Pass images",
    ),
    "no pixels": (np.zeros((4, 0, 12), np.uint8), r"shape \[0, 12\], which has no pixels"),
    "no train": ({"test": GRAY}, "a dict with the keys test, but without train"),
    "columns": (
        {"image": GRAY, "label": LABELS},
        "a dict with the keys image, label, but without train",
    ),
    "damaged": ([b"no image"] * 4, "image 0 cannot be read"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_data_are_refused_by_name(kind: str) -> None:
    dataset, message = WRONG[kind]
    with pytest.raises(UserError, match=message) as raised:
        load(dataset)
    assert "\n" not in str(raised.value)


def test_wrong_combinations_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="label 3 is held out, but no training image has it"):
        load((GRAY, LABELS % 3), test=(GRAY, LABELS))
    with pytest.raises(UserError, match=r"test= is given as well"):
        load({"train": GRAY, "test": GRAY}, test=GRAY)
    with pytest.raises(UserError, match=r"more than data\.cache_gb=1e-06"):
        load(GRAY, cache_gb=1e-6)
    with pytest.raises(
        UserError, match=r"data\.source=sample: a data set passed from Python has no sample"
    ):
        load(GRAY, source="sample")
    with pytest.raises(
        UserError, match=r"data\.attributes=Smiling: data\.name=python has no attributes"
    ):
        load(GRAY, attributes=["Smiling"])
    named = TensorDataset(TENSOR, torch.from_numpy(LABELS))
    named.classes = ["a", "b"]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="label 3, but the data set names 2 classes"):
        load(named)
    with pytest.raises(UserError, match=r"test= is given without data="):
        datasets.load(DataConfig(), seed=0, test=GRAY)


def test_items_with_columns_of_other_names_say_that_labels_are_missing() -> None:
    """A column named category is not read, and not dropped without a word."""
    rng = np.random.default_rng(0)
    images = [rng.integers(256, size=(8, 8), dtype=np.uint8) for _ in range(12)]
    items = [{"image": image, "category": i % 2} for i, image in enumerate(images)]
    made = from_python.decode_dataset(items, DataConfig(size=8))
    assert "; no column label or labels; ignored: category" in made.about
    assert "ignored" not in from_python.decode_dataset(images, DataConfig(size=8)).about


def test_test_images_that_are_training_images_are_reported() -> None:
    """The same data set passed as training and test data."""
    rng = np.random.default_rng(0)
    images = [rng.integers(256, size=(8, 8), dtype=np.uint8) for _ in range(12)]
    made = from_python.decode_dataset(images, DataConfig(size=8), test=images[:5])
    assert made.about.endswith("; 5 of 5 held-out images are exact copies of training images")


@pytest.mark.parametrize("as_list", [False, True])
def test_masked_arrays_are_refused(as_list: bool) -> None:
    """Their mask would be ignored; one that masks nothing is an array."""
    pixels = np.ma.masked_array(np.zeros((6, 8, 8, 3), np.uint8), mask=False)
    datasets.load(DataConfig(size=8), 0, dataset=pixels)
    pixels[3, 0, 0] = np.ma.masked
    with pytest.raises(UserError, match="item 3 is a masked array, whose mask would be ignored"):
        datasets.load(DataConfig(size=8), 0, dataset=[*pixels] if as_list else pixels)
