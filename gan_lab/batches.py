"""Read what a DataLoader yields into a ``Batch``, or refuse it in a sentence before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms.functional import pil_to_tensor

from gan_lab.images import Batch, ImageSpec
from gan_lab.utils.errors import UserError

# keys of images and labels in a mapping, in order of preference
IMAGE_KEYS = ("image", "images", "pixel_values", "img")
LABEL_KEYS = ("label", "labels", "y", "target")
SOURCE_KEYS = ("source", "sources", "A", "input")
TARGET_KEYS = ("target", "targets", "B", *IMAGE_KEYS)
OVERSHOOT = 0.02  # of a range: what resizing with a filter adds beyond black and white
FIRST_CHECKED, CHECK_EVERY = 16, 64  # batches on a GPU whose values are checked
PixelRange = tuple[float, float]
RANGES: tuple[PixelRange, ...] = ((0.0, 1.0), (-1.0, 1.0))


@dataclass
class BatchReader:
    """Converts the batches of any DataLoader for one model.

    A batch is a tensor of images, ``(image, label)`` or a dict with these; for image-to-image
    translation ``(source, target)``, or a list or dict of the batches of two loaders. Images are
    uint8, or floats in [0, 1] or [-1, 1]: the first float batch decides which, unless
    ``pixel_range`` says it.
    """

    spec: ImageSpec
    labels: str  # "required", "optional" (unlabeled images are -1) or "ignored"
    translation: bool  # whether a batch has sources
    pixel_range: PixelRange | None = None
    batches_read: int = 0

    def read(self, batch: Any) -> Batch:
        """Return the images [B, C, H, W] as uint8 or as floats in [-1, 1], labels [B] int64 and sources [B, C', H, W].

        Raises:
            UserError: The batch is of another type, size or range, or labels are missing or out of
                range.
        """
        if isinstance(batch, Batch):
            return batch
        self.batches_read += 1
        if self.translation:
            source, target = self._two_images(batch)
            channels = self.spec.source_channels
            sources = self._images(source, (channels, *self.spec.shape[1:]), "source images")
            images = self._images(target, self.spec.shape, "target images")
            if len(sources) != len(images):
                shorter = min(len(sources), len(images))  # the last batches of two loaders
                sources, images = sources[:shorter], images[:shorter]
            return Batch(images, None, sources)
        image, label = self._image_and_label(batch)
        images = self._images(image, self.spec.shape, "images")
        return Batch(images, None if self.labels == "ignored" else self._labels(label, len(images)))

    def _image_and_label(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Tensor):
            return batch, None
        if isinstance(batch, Mapping):
            return _value(batch, IMAGE_KEYS, "images"), next(
                (batch[key] for key in LABEL_KEYS if key in batch), None
            )
        if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) in (1, 2):
            return batch[0], batch[1] if len(batch) == 2 else None
        raise UserError(
            f"cannot read a batch of type {_describe(batch)}: yield images, (images, labels) or "
            '{"image": images, "label": labels}'
        )

    def _two_images(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            two = (
                _value(batch, SOURCE_KEYS, "source images"),
                _value(batch, TARGET_KEYS, "target images"),
            )
        elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
            two = batch[0], batch[1]
        else:
            raise UserError(
                f"cannot read a batch of type {_describe(batch)}: image-to-image translation takes "
                "(source, target), or the batches of two loaders as a list or a dict with the keys "
                "A and B"
            )
        # a loader of (image, label) pairs: translation has no use for the label
        return tuple(
            part[0]
            if isinstance(part, Sequence) and not isinstance(part, str) and len(part)
            else part
            for part in two
        )

    def _images(self, images: Any, shape: tuple[int, int, int], what: str) -> Tensor:
        if not isinstance(images, Tensor):
            raise UserError(
                f"{what} are of type {_describe(images)}: add transforms.ToTensor() to the data set"
            )
        if images.dim() == 3 and shape[0] == 1:
            images = images.unsqueeze(1)  # [B, H, W], as MNIST's own tensors are
        if images.shape[1:] != shape:
            hint = (
                "permute them to channels first"
                if images.shape[-1:] == shape[:1]
                else "resize them in the transform"
            )
            raise UserError(
                f"{what} have the shape {tuple(images.shape[1:])}, but the model was made for "
                f"{shape}: {hint}, or pass another image_shape"
            )
        if images.dtype == torch.uint8:
            return images
        if not images.is_floating_point():
            raise UserError(
                f"{what} are {images.dtype}: convert them to uint8 with 0 for black and 255 for "
                "white"
            )
        return self._in_symmetric_range(images, what)

    def _in_symmetric_range(self, images: Tensor, what: str) -> Tensor:
        """Convert floats to [-1, 1], and infer or check their range."""
        if self.pixel_range and not self._is_checked(images):
            return self._scaled(images, self.pixel_range)
        low, high = (float(bound) for bound in images.aminmax())
        known = self.pixel_range or next(
            (each for each in RANGES if _lies_in(low, high, each)), None
        )
        if known is None or not _lies_in(low, high, known):
            expected = (
                f"floats in [{known[0]:g}, {known[1]:g}], as the first batch was"
                if known
                else "floats in [0, 1] or [-1, 1]"
            )
            raise UserError(
                f"{what} have pixel values from {low:.3g} to {high:.3g}: they must be uint8, or "
                f"{expected}. Change the transform, or pass pixel_range=(low, high)"
            )
        self.pixel_range = known
        return self._scaled(images, known)

    def _is_checked(self, values: Tensor) -> bool:
        """Return whether to check values: each batch on a CPU, few on a GPU, which must wait."""
        first = self.batches_read <= FIRST_CHECKED
        return not values.is_cuda or first or self.batches_read % CHECK_EVERY == 0

    @staticmethod
    def _scaled(images: Tensor, bounds: PixelRange) -> Tensor:
        """Images from a range of pixel values to [-1, 1]."""
        low, high = bounds
        return images if (low, high) == (-1, 1) else (images - low) * (2 / (high - low)) - 1

    def _labels(self, labels: Any, n: int) -> Tensor:
        if labels is None:
            unlabeled = "" if self.labels == "required" else ", with -1 for unlabeled images"
            raise UserError(
                "this model learns from labels, but the batches have none: yield "
                f"(images, labels){unlabeled}"
            )
        if (
            not isinstance(labels, Tensor)
            or labels.is_floating_point()
            or labels.dtype == torch.bool
            or labels.dim() != 1
        ):
            described = (
                f"{labels.dtype} {tuple(labels.shape)}"
                if isinstance(labels, Tensor)
                else _describe(labels)
            )
            raise UserError(
                f"labels are {described}: they must be integers [B], one class number per image"
            )
        if len(labels) != n:
            raise UserError(f"a batch has {n} images but {len(labels)} labels")
        if not self._is_checked(labels):
            return labels.long()
        lowest, highest = (int(bound) for bound in labels.aminmax())
        if lowest < (-1 if self.labels == "optional" else 0) or highest >= self.spec.classes:
            raise UserError(
                f"labels range from {lowest} to {highest}, but the model was made with "
                f"num_classes={self.spec.classes}: labels go from 0 to {self.spec.classes - 1}"
            )
        return labels.long()


def collate_images(items: Sequence[Any]) -> Any:
    """torch's ``default_collate`` which also takes PIL images: as uint8 [C, H, W], converted to tensors first."""
    return default_collate([_with_tensors(item) for item in items])


def _with_tensors(item: Any) -> Any:
    if isinstance(item, Image.Image):
        return pil_to_tensor(item)
    if isinstance(item, Mapping):
        return {key: _with_tensors(value) for key, value in item.items()}
    if isinstance(item, tuple | list):
        return tuple(_with_tensors(value) for value in item)
    return item


def _lies_in(low: float, high: float, bounds: PixelRange) -> bool:
    """True if values from ``low`` to ``high`` lie in a range; NaN and infinity never do."""
    slack = OVERSHOOT * (bounds[1] - bounds[0])
    return low >= bounds[0] - slack and high <= bounds[1] + slack


def _value(batch: Mapping[Any, Any], keys: Sequence[str], what: str) -> Any:
    for key in keys:
        if key in batch:
            return batch[key]
    raise UserError(
        f"a batch has the keys {', '.join(map(str, batch))}, none of them for {what}: use "
        f"{keys[0]!r}"
    )


def _describe(value: Any) -> str:
    """The type of a value, with that of its items."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = ", ".join(type(item).__name__ for item in value[:4])
        return (
            f"{type(value).__name__} of {len(value)} ({items}{', ...' if len(value) > 4 else ''})"
        )
    return type(value).__name__
