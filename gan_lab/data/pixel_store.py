"""Collect images of any type as uint8: PIL images, NumPy arrays, tensors, encoded bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from gan_lab.config.schema import DataConfig
from gan_lab.data.image_reader import (
    FIT_DESCRIPTIONS,
    GRAY_MODES,
    RANGE_TOLERANCE,
    Frame,
    is_deep,
    put_into_frame,
    silence_pillow,
    to_rgb,
)
from gan_lab.utils.errors import UserError

# Gray, RGB, RGBA.
CHANNEL_COUNTS = (1, 3, 4)
# Float images with a smaller maximum were probably divided by 255 twice.
MIN_PEAK = 2 / 255


def is_image(value: Any) -> bool:
    """True for types that ``PixelStore.add`` accepts; numbers and vectors are not images."""
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim >= 2
    return isinstance(value, Image.Image | bytes) or _is_encoded(value)


def _is_encoded(value: Any) -> bool:
    """True for an image file as Hugging Face's data sets store it: its bytes, or its path."""
    return isinstance(value, dict) and value.keys() <= {"bytes", "path"} and any(value.values())


class PixelStore:
    """Images of one type as uint8 [N, 1 or 3, H, W], resized like the image files of a folder.

    Without ``data.channels`` the result is gray if every image is. Floats must be in [0, 1] or
    [-1, 1]; ``finish`` checks the range, which is known when all images were added.

    Raises UserError for images of different types, dtypes or layouts that are not images, NaN, and
    ranges that are not clear.
    """

    def __init__(self, count: int, cfg: DataConfig) -> None:
        self.count, self.cfg = count, cfg
        self.pixels = np.empty((0, 0, 0, 0), np.uint8)
        self.kind = ""
        self.lowest = np.inf
        self.highest = -np.inf
        self.signed = False
        self.enlarged = 0
        self.reshaped = 0

    def add(self, index: int, image: Any) -> None:
        """Store image ``index``; indices are 0, 1, 2 ... in this order."""
        kind = _describe_kind(image)
        if not index:
            self.kind = kind
        elif kind != self.kind:
            raise UserError(
                f"data: image {index:,} is a {kind}, but image 0 is a {self.kind}. Return images "
                "of one type."
            )
        picture = self.to_pil(image, index)
        gray = self.cfg.channels == 1 or (self.cfg.channels is None and picture.mode in GRAY_MODES)
        height, width = self.cfg.shape
        self.enlarged += picture.width < width or picture.height < height
        self.reshaped += picture.width * height != picture.height * width
        framed = put_into_frame(to_rgb(picture), Frame(height, width, self.cfg.fit, gray))
        if not index:
            self.pixels = self._allocate(len(framed))
        elif len(framed) > self.pixels.shape[1]:
            # The first image with color: expand the gray ones before it.
            colored = self._allocate(3)
            colored[:index] = self.pixels[:index]
            self.pixels = colored
        self.pixels[index] = framed

    def finish(self) -> np.ndarray:
        """Return the pixels [N, C, H, W]. Raises UserError if the range of values is ambiguous."""
        bounds = f"{self.lowest:.4g} to {self.highest:.4g}"
        values = f"data: the images ({self.kind}) have values from {bounds}"
        if self.kind.endswith("uint8") and self.highest == 1:
            raise UserError(
                f"{values}, so they would be black. Multiply them by 255, or pass booleans."
            )
        if "float" in self.kind:
            if not self.signed and 0 < self.highest < MIN_PEAK:
                raise UserError(
                    f"{values}, so they would be black. Scale them to [0, 1], or pass uint8."
                )
            # Images in [0, 1] after a subtraction span at most 1.
            if self.signed and self.highest - self.lowest <= 1:
                raise UserError(
                    f"{values}: not clearly [-1, 1]. Scale them to [0, 1] or [-1, 1], or pass "
                    "uint8."
                )
        return self.pixels

    @property
    def notes(self) -> list[str]:
        """Describe what was done to some of the images, for the line that reports the data."""
        notes = []
        if self.reshaped:
            notes.append(f"{self.reshaped:,} {FIT_DESCRIPTIONS[self.cfg.fit]}")
        if self.enlarged:
            height, width = self.cfg.shape
            notes.append(f"{self.enlarged:,} upsampled to {height} x {width} pixels")
        return notes

    def _allocate(self, channels: int) -> np.ndarray:
        shape = (self.count, channels, *self.cfg.shape)
        size_gb = float(np.prod(shape, dtype=np.float64)) / 1e9
        if size_gb > self.cfg.cache_gb:
            raise UserError(
                f"data: {self.count:,} images of {channels} x {self.cfg.shape[0]} x "
                f"{self.cfg.shape[1]} pixels take {size_gb:.1f} GB of memory, more than "
                f"data.cache_gb={self.cfg.cache_gb:g}. Pass fewer images, lower data.size, raise "
                "data.cache_gb, or read image files with data.name=folder."
            )
        return np.empty(shape, np.uint8)

    def to_pil(self, image: Any, index: int) -> Image.Image:
        """Convert image ``index`` to an upright 8-bit PIL image. Raises UserError if it is none."""
        if isinstance(image, np.ndarray | Tensor):
            return Image.fromarray(self._to_uint8(image, index))
        with silence_pillow():
            try:
                picture = image if isinstance(image, Image.Image) else _decode(image)
                deep = is_deep(picture)
                picture = ImageOps.exif_transpose(picture)
            # Pillow can raise anything for a damaged file.
            except Exception as error:
                raise UserError(
                    f"data: image {index:,} cannot be read: {error}. Remove or replace it."
                ) from None
        if deep:
            raise UserError(
                f"data: image {index:,} has more than 8 bits per channel (mode {picture.mode}). "
                "Convert it to 8 bits, or to a float array in [0, 1]; data.name=folder scales such "
                "files itself."
            )
        return picture

    def _to_uint8(self, image: np.ndarray | Tensor, index: int) -> np.ndarray:
        """Convert one array to uint8 [H, W] or [H, W, C], and keep track of the range of values."""
        is_tensor = isinstance(image, Tensor)
        if isinstance(image, Tensor):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()
        pixels = _channels_last(image, is_tensor, index)
        if pixels.dtype == np.bool_:
            return pixels.astype(np.uint8) * 255
        is_float = np.issubdtype(pixels.dtype, np.floating)
        if pixels.dtype != np.uint8 and not is_float:
            raise UserError(
                f"data: image {index:,} is a {self.kind}. Pass uint8 in 0..255, or floats in [0, "
                "1] or [-1, 1]."
            )
        lowest, highest = float(pixels.min()), float(pixels.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            raise UserError(f"data: image {index:,} has NaN or Inf pixels. Remove or repair it.")
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        if not is_float:
            return pixels
        if highest > 1 + RANGE_TOLERANCE or lowest < -1 - RANGE_TOLERANCE:
            raise UserError(
                f"data: image {index:,} ({self.kind}) has values from {lowest:.4g} to "
                f"{highest:.4g}, neither [0, 1] nor [-1, 1]. Remove transforms.Normalize, or pass "
                "uint8 in 0..255."
            )
        if lowest < -RANGE_TOLERANCE and not self.signed:
            self.signed = True
            # images so far, all of whose values are positive, were taken for [0, 1]: u / 255 = x =
            # v / 127.5 - 1
            self.pixels[:index] = np.rint(
                (self.pixels[:index].astype(np.float32) + 255) / 2
            ).astype(np.uint8)
        pixels = pixels.astype(np.float64)
        scaled = (pixels + 1) * 127.5 if self.signed else pixels * 255
        return scaled.clip(0, 255).round().astype(np.uint8)


def _describe_kind(image: Any) -> str:
    if isinstance(image, np.ndarray):
        return f"NumPy array of {image.dtype}"
    if isinstance(image, Tensor):
        return f"tensor of {str(image.dtype).removeprefix('torch.')}"
    return "PIL image" if isinstance(image, Image.Image) else "encoded image"


def _decode(image: bytes | dict[str, Any]) -> Image.Image:
    content = image if isinstance(image, bytes) else image.get("bytes")
    opened = Image.open(io.BytesIO(content) if content else image["path"])  # type: ignore[call-overload]
    opened.load()
    return opened


def _channels_last(image: np.ndarray, is_tensor: bool, index: int) -> np.ndarray:
    """Return an image as [H, W] or [H, W, 3 or 4]. Raises UserError for an ambiguous shape."""
    shape = list(image.shape)
    described = f"data: image {index:,} has the shape {shape}"
    if 0 in shape:
        raise UserError(f"{described}, which has no pixels. Remove it.")
    if image.ndim == 2:
        if shape[1] in CHANNEL_COUNTS:
            raise UserError(
                f"{described}: a gray image {shape[1]} pixels wide, or pixels of {shape[1]} "
                "channels? Pass [N, H, W, C] or [N, C, H, W] images."
            )
        return image
    is_first = image.ndim == 3 and shape[0] in CHANNEL_COUNTS
    is_last = image.ndim == 3 and shape[-1] in CHANNEL_COUNTS
    if is_first and is_last and not is_tensor:
        raise UserError(
            f"{described}: channels first or last? Pass a tensor, whose channels are first."
        )
    if not is_first and not is_last:
        raise UserError(
            f"{described}. Pass images [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels."
        )
    pixels = image.transpose(1, 2, 0) if is_first else image
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
