"""Data modules for any LightningModule: MNIST, CelebA, horse2zebra and folders of images.

They read and split the data as the lab's own runs do, and serve float tensors in [-1, 1]. The order
of the training images comes from torch's generator, as with any ``DataLoader(shuffle=True)``.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.facts import DataFacts
from gan_lab.data.split import Subset
from gan_lab.images import to_unit
from gan_lab.utils.errors import UserError

MAX_SIZE = 4096  # of images, in pixels
Source = Literal["auto", "full", "sample"]


class ImageDataset(Dataset[Any]):
    """Images [C, H, W] in [-1, 1]: (image, label), (source, target) or the image alone."""

    def __init__(self, subset: Subset) -> None:
        self.subset = subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several items for a DataLoader, gathering the pixels in one step."""
        count = len(self)
        for index in indices:
            if not -count <= index < count:
                raise IndexError(index)
        batch = self.subset.__getitems__([index % count for index in indices]).map(to_unit)
        if batch.sources is not None:
            return list(zip(batch.sources, batch.images, strict=True))
        if batch.labels is not None:
            return list(zip(batch.images, batch.labels, strict=True))
        return list(batch.images)


class UnpairedDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images (A, B) in [-1, 1] of two unpaired sets.

    Item i has image i of the larger set. With ``random``, the other image is sampled from torch's
    generator; otherwise it is image i too, and the smaller set limits the number of items.
    """

    def __init__(self, a: ImageDataset, b: ImageDataset, random: bool) -> None:
        self.a, self.b, self.random = a, b, random

    def __len__(self) -> int:
        sizes = len(self.a), len(self.b)
        return max(sizes) if self.random else min(sizes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        a_index = b_index = index
        if self.random and len(self.a) >= len(self.b):
            b_index = int(torch.randint(len(self.b), ()))
        elif self.random:
            a_index = int(torch.randint(len(self.a), ()))
        return self.a[a_index], self.b[b_index]


class ImageDataModule(LightningDataModule):
    """Base of the public data modules: standard loaders over one data set of the lab.

    The data are found, or downloaded, when they are first needed: by ``setup`` or by one of the
    properties. They are decoded once; later starts map the cache into memory.
    """

    def __init__(
        self,
        cfg: DataConfig,
        batch_size: int,
        image_size: int | tuple[int, int],
        num_workers: int,
        drop_last: bool,
        pin_memory: bool | None,
    ) -> None:
        super().__init__()
        sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
        valid = len(sides) == 2 and all(_is_count(side, 1) and side <= MAX_SIZE for side in sides)
        if not valid:
            raise UserError(
                f"image_size={image_size}. Pass pixels in 1..{MAX_SIZE}, or (height, width)."
            )
        if not _is_count(batch_size, 1):
            raise UserError(f"batch_size={batch_size}. Pass an integer of at least 1.")
        if not _is_count(num_workers, 0):
            raise UserError(f"num_workers={num_workers}. Pass an integer of at least 0.")
        height, width = sides
        self.cfg = replace(cfg, size=int(height), width=None if height == width else int(width))
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.drop_last = drop_last
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory

    @cached_property
    def _served(self) -> GANDataModule:
        try:
            served = datasets.load(self.cfg, seed=0)
        except UserError as error:  # its text names keys of the config
            text = str(error).replace("data.size=", "image_size=")
            raise UserError(
                re.sub(r"\bdata\.(root|source|channels|attributes|layout|levels)=", r"\1=", text)
            ) from None
        if self.cfg.source == "auto" and served.facts.source == "sample":
            warnings.warn(
                f"{type(self).__name__} uses the sample: {served.facts.about}", stacklevel=2
            )
        return served

    @property
    def facts(self) -> DataFacts:
        """Spec, counts, class names, source, fingerprint and license of the data."""
        return self._served.facts

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image; of image-to-image data, of a target."""
        return self.facts.spec.shape

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for unlabeled data."""
        return self.facts.spec.classes

    @property
    def class_names(self) -> list[str]:
        """Names of labels 0, 1, 2 ...; empty for unlabeled data."""
        return list(self.facts.class_names)

    def prepare_data(self) -> None:
        """Download and decode the data, in one process of each machine."""
        _ = self._served

    def setup(self, stage: str | None = None) -> None:
        """Open the decoded data."""
        _ = self._served

    def dataset(self, split: str) -> Dataset[Any]:
        """Return the ``train``, ``validation`` or ``test`` split as a map-style data set."""
        if split not in ("train", "validation", "test"):
            raise UserError(f"split={split!r}. Pass train, validation or test.")
        return self._wrap(self._served.subset(split), split)

    def _wrap(self, subset: Subset, split: str) -> Dataset[Any]:
        return ImageDataset(subset)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training images, shuffled in each epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation images: half of the held-out images."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images: the other half of the held-out images."""
        return self._loader("test", shuffle=False)

    def _loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        return DataLoader(
            self.dataset(split),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            drop_last=self.drop_last and shuffle,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
        )


class MNISTDataModule(ImageDataModule):
    """MNIST as batches of (images [N, 1, H, W] in [-1, 1], labels [N]).

    ``source="full"`` downloads MNIST into ``root`` if it is not there. ``source="auto"`` never
    writes into a folder that you name: the set must be there. Without ``root`` it downloads, or
    falls back to a sample of 5,000 digits with a warning.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        batch_size: int = 64,
        image_size: int = 28,
        num_workers: int = 0,
        source: Source = "auto",
        drop_last: bool = False,
        pin_memory: bool | None = None,
    ) -> None:
        cfg = DataConfig(name="mnist", root=_expand(root), source=_check_source(source))
        super().__init__(cfg, batch_size, image_size, num_workers, drop_last, pin_memory)


class CelebADataModule(ImageDataModule):
    """CelebA as batches of images [N, 3, H, W] in [-1, 1], or (images, labels) with ``attributes``.

    Each combination of the attributes is a class. ``source="auto"`` falls back to 100 gray faces,
    with a warning.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        batch_size: int = 64,
        image_size: int = 64,
        num_workers: int = 0,
        source: Source = "auto",
        attributes: Sequence[str] = (),
        drop_last: bool = False,
        pin_memory: bool | None = None,
    ) -> None:
        if isinstance(attributes, str):
            raise UserError(f"attributes={attributes!r}. Pass a list, such as [{attributes!r}].")
        cfg = DataConfig(
            name="celeba",
            root=_expand(root),
            source=_check_source(source),
            attributes=[str(name) for name in attributes],
        )
        super().__init__(cfg, batch_size, image_size, num_workers, drop_last, pin_memory)


class Horse2ZebraDataModule(ImageDataModule):
    """Horses and zebras, or any two folders, as unpaired (A, B), each [N, 3, H, W] in [-1, 1].

    An epoch has as many items as the larger set; the images of the other set are drawn from torch's
    generator. Validation and test have image i of both. ``source="auto"`` falls back to generated
    horses, with a warning.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        batch_size: int = 1,
        image_size: int | tuple[int, int] = 64,
        num_workers: int = 0,
        source: Source = "auto",
        fit: Literal["crop", "pad", "stretch"] = "crop",
        drop_last: bool = False,
        pin_memory: bool | None = None,
    ) -> None:
        cfg = DataConfig(
            name="horse2zebra",
            root=_expand(root),
            source=_check_source(source),
            fit=_check_fit(fit),
        )
        super().__init__(cfg, batch_size, image_size, num_workers, drop_last, pin_memory)

    def _wrap(self, subset: Subset, split: str) -> Dataset[Any]:
        assert subset.sources is not None
        a, b = (
            ImageDataset(Subset(subset.sources, None, None)),
            ImageDataset(Subset(subset.images, None, None)),
        )
        return UnpairedDataset(a, b, random=split == "train")


class ImageFolderDataModule(ImageDataModule):
    """The images of a folder, as batches of (images [N, C, H, W] in [-1, 1], labels [N]).

    The folders of the first level are the classes; without classes, batches are images alone.
    Folders named train, and test or val, are splits; without them 10% of the images are held out.
    ``layout`` settles ambiguous names. ``channels=None`` is gray if most files are. ``levels`` are
    the black and white level of images with more than 8 bits, inferred if empty.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        batch_size: int = 64,
        image_size: int | tuple[int, int] = 64,
        num_workers: int = 0,
        fit: Literal["crop", "pad", "stretch"] = "crop",
        channels: Literal[1, 3] | None = None,
        drop_last: bool = False,
        pin_memory: bool | None = None,
        layout: Literal["auto", "classes", "splits"] = "auto",
        levels: Sequence[float] = (),
    ) -> None:
        if channels not in (None, 1, 3):
            raise UserError(f"channels={channels}. Pass 1 (gray), 3 (color) or None.")
        if layout not in ("auto", "classes", "splits"):
            raise UserError(f"layout={layout!r}. Pass auto, classes or splits.")
        cfg = DataConfig(
            name="folder",
            root=_expand(root),
            fit=_check_fit(fit),
            channels=channels,
            layout=layout,
            levels=[float(level) for level in levels],
        )
        super().__init__(cfg, batch_size, image_size, num_workers, drop_last, pin_memory)


def _is_count(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _expand(root: str | os.PathLike[str]) -> str:
    return os.path.expanduser(os.fspath(root))


def _check_source(source: Any) -> Any:
    if source not in ("auto", "full", "sample"):
        raise UserError(f"source={source!r}. Pass auto, full or sample.")
    return source


def _check_fit(fit: Any) -> Any:
    if fit not in ("crop", "pad", "stretch"):
        raise UserError(f"fit={fit!r}. Pass crop, pad or stretch.")
    return fit
