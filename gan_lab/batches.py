"""Convert the batches of any DataLoader to ``Batch``, and reject unsuitable ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from gan_lab.images import Batch, ImageSpec, pil_to_tensor
from gan_lab.utils.errors import UserError

# Keys of images and labels in a mapping, in order of preference.
IMAGE_KEYS = ("image", "images", "pixel_values", "img")
LABEL_KEYS = ("label", "labels", "y", "target")
SOURCE_KEYS = ("source", "sources", "A", "input")
TARGET_KEYS = ("target", "targets", "B", *IMAGE_KEYS)
# Resizing with a filter can exceed black and white by about this fraction of the range.
MAX_OVERSHOOT = 0.02
# On a GPU, values are checked in the first batches and then at this interval, because a check
# synchronizes with the device.
FIRST_CHECKED_BATCHES = 16
CHECK_INTERVAL_BATCHES = 64
PixelRange = tuple[float, float]
PIXEL_RANGES: tuple[PixelRange, ...] = ((0.0, 1.0), (-1.0, 1.0))


@dataclass
class BatchReader:
    """Converts the batches of any DataLoader for one model.

    A batch is a tensor of images, ``(image, label)`` or a dict with these; for image-to-image
    translation ``(source, target)``, or a list or dict of the batches of two loaders. Images are
    uint8, or floats in [0, 1] or [-1, 1].

    Attributes:
        spec: Description of the images that the model expects.
        labels: "required", "optional" (unlabeled images are -1) or "ignored".
        translation: Whether a batch has sources.
        pixel_range: Range of float images; None: inferred from the first float batch.
        batches_read: Number of batches so far.
    """

    spec: ImageSpec
    labels: str
    translation: bool
    pixel_range: PixelRange | None = None
    batches_read: int = 0

    def read(self, batch: Any) -> Batch:
        """Convert a batch.

        Returns:
            Images [B, C, H, W] and sources [B, C', H, W] as uint8 or as floats in [-1, 1], and
            labels [B] as int64.

        Raises:
            UserError: The batch has another type, size or range, or labels are missing or out of
                range.
        """
        if isinstance(batch, Batch):
            return batch
        self.batches_read += 1
        if self.translation:
            source, target = self._split_translation_batch(batch)
            channels = self.spec.source_channels
            sources = self._convert_images(
                source, (channels, *self.spec.shape[1:]), "source images"
            )
            images = self._convert_images(target, self.spec.shape, "target images")
            # The last batches of two loaders may differ in length.
            if len(sources) != len(images):
                shorter = min(len(sources), len(images))
                sources, images = sources[:shorter], images[:shorter]
            return Batch(images, None, sources)
        image, label = self._split_image_batch(batch)
        images = self._convert_images(image, self.spec.shape, "images")
        labels = None if self.labels == "ignored" else self._convert_labels(label, len(images))
        return Batch(images, labels)

    def _split_image_batch(self, batch: Any) -> tuple[Any, Any]:
        """Return the images of a batch, and its labels or None."""
        if isinstance(batch, Tensor):
            return batch, None
        if isinstance(batch, Mapping):
            return _find_value(batch, IMAGE_KEYS, "images"), next(
                (batch[key] for key in LABEL_KEYS if key in batch), None
            )
        if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) in (1, 2):
            return batch[0], batch[1] if len(batch) == 2 else None
        raise UserError(
            f"Cannot read a batch of type {_describe_type(batch)}. Yield images, (images, labels) "
            'or {"image": images, "label": labels}.'
        )

    def _split_translation_batch(self, batch: Any) -> tuple[Any, Any]:
        """Return the sources and the targets of a batch."""
        if isinstance(batch, Mapping):
            two = (
                _find_value(batch, SOURCE_KEYS, "source images"),
                _find_value(batch, TARGET_KEYS, "target images"),
            )
        elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
            two = batch[0], batch[1]
        else:
            raise UserError(
                f"Cannot read a batch of type {_describe_type(batch)}. For image-to-image "
                "translation, yield (source, target), or the batches of two loaders as a list or a "
                "dict with the keys A and B."
            )
        # A loader may yield (image, label) pairs. Translation ignores the labels.
        return tuple(
            part[0]
            if isinstance(part, Sequence) and not isinstance(part, str) and len(part)
            else part
            for part in two
        )

    def _convert_images(self, images: Any, shape: tuple[int, int, int], what: str) -> Tensor:
        if not isinstance(images, Tensor):
            raise UserError(
                f"{what} have the type {_describe_type(images)}. Add transforms.ToTensor() to the "
                "data set."
            )
        # Torchvision's MNIST stores gray images as [B, H, W].
        if images.dim() == 3 and shape[0] == 1:
            images = images.unsqueeze(1)
        if images.shape[1:] != shape:
            hint = (
                "Permute them to channels first"
                if images.shape[-1:] == shape[:1]
                else "Resize them in the transform"
            )
            raise UserError(
                f"{what} have the shape {tuple(images.shape[1:])}, but the model expects {shape}. "
                f"{hint}, or pass another image_shape."
            )
        if images.dtype == torch.uint8:
            return images
        if not images.is_floating_point():
            raise UserError(
                f"{what} have the type {images.dtype}. Convert them to uint8 with 0 for black and "
                "255 for white."
            )
        return self._convert_floats(images, what)

    def _convert_floats(self, images: Tensor, what: str) -> Tensor:
        """Convert floats to [-1, 1], and infer or check their range."""
        if self.pixel_range and not self._should_check(images):
            return self._scale(images, self.pixel_range)
        low, high = (float(bound) for bound in images.aminmax())
        known = self.pixel_range or next(
            (bounds for bounds in PIXEL_RANGES if _is_within(low, high, bounds)), None
        )
        if known is None or not _is_within(low, high, known):
            expected = (
                f"floats in [{known[0]:g}, {known[1]:g}] like the first batch"
                if known
                else "floats in [0, 1] or [-1, 1]"
            )
            raise UserError(
                f"{what} have pixel values from {low:.3g} to {high:.3g}, but must be uint8 or "
                f"{expected}. Change the transform, or pass pixel_range=(low, high)."
            )
        self.pixel_range = known
        return self._scale(images, known)

    def _should_check(self, values: Tensor) -> bool:
        """Return True if the values of this batch are to be checked, which makes a GPU wait."""
        is_early = self.batches_read <= FIRST_CHECKED_BATCHES
        is_due = self.batches_read % CHECK_INTERVAL_BATCHES == 0
        return not values.is_cuda or is_early or is_due

    @staticmethod
    def _scale(images: Tensor, bounds: PixelRange) -> Tensor:
        """Scale images from a range of pixel values to [-1, 1]."""
        low, high = bounds
        return images if (low, high) == (-1, 1) else (images - low) * (2 / (high - low)) - 1

    def _convert_labels(self, labels: Any, n: int) -> Tensor:
        if labels is None:
            unlabeled = "" if self.labels == "required" else ", with -1 for unlabeled images"
            raise UserError(
                "This model learns from labels, but the batches have none. Yield "
                f"(images, labels){unlabeled}."
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
                else _describe_type(labels)
            )
            raise UserError(
                f"Labels have the type {described}. Yield integers [B], one class index per image."
            )
        if len(labels) != n:
            raise UserError(
                f"A batch has {n} images but {len(labels)} labels. Yield one label per image."
            )
        if not self._should_check(labels):
            return labels.long()
        lowest, highest = (int(bound) for bound in labels.aminmax())
        if lowest < (-1 if self.labels == "optional" else 0) or highest >= self.spec.classes:
            raise UserError(
                f"Labels range from {lowest} to {highest}, but the model has num_classes="
                f"{self.spec.classes}. Use labels from 0 to {self.spec.classes - 1}."
            )
        return labels.long()


def collate_images(items: Sequence[Any]) -> Any:
    """Collate like torch's ``default_collate``, with PIL images as uint8 tensors [C, H, W]."""
    return default_collate([_convert_pil_images(item) for item in items])


def _convert_pil_images(item: Any) -> Any:
    if isinstance(item, Image.Image):
        return pil_to_tensor(item)
    if isinstance(item, Mapping):
        return {key: _convert_pil_images(value) for key, value in item.items()}
    if isinstance(item, tuple | list):
        return tuple(_convert_pil_images(value) for value in item)
    return item


def _is_within(low: float, high: float, bounds: PixelRange) -> bool:
    """Return True if values from ``low`` to ``high`` are in a range; False for NaN and Inf."""
    slack = MAX_OVERSHOOT * (bounds[1] - bounds[0])
    return low >= bounds[0] - slack and high <= bounds[1] + slack


def _find_value(batch: Mapping[Any, Any], keys: Sequence[str], what: str) -> Any:
    """Return the value of the first of the keys that a batch has."""
    for key in keys:
        if key in batch:
            return batch[key]
    raise UserError(
        f"No key for {what} in a batch with the keys {', '.join(map(str, batch))}. Use {keys[0]!r}."
    )


def _describe_type(value: Any) -> str:
    """Describe the type of a value and of its first items."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = ", ".join(type(item).__name__ for item in value[:4])
        return (
            f"{type(value).__name__} of {len(value)} ({items}{', ...' if len(value) > 4 else ''})"
        )
    return type(value).__name__
