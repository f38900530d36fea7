"""Each image file as RGB, or refused with its name and the reason."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps


class UnreadableError(ValueError):
    """A file that holds no image, or not the whole of one."""


def read(path: Path) -> np.ndarray:
    """An image of any mode as uint8 RGB [3, H, W]. Raises UnreadableError, which names the file."""
    with quiet():
        return np.array(open_image(path)).transpose(2, 0, 1)


def square(path: Path, size: int, crop: int | None = None, whites: Whites | None = None) -> np.ndarray:
    """The middle of an image as uint8 RGB [3, size, size]: the largest square, or that of ``crop`` pixels if it has it.

    Resized with antialias, as the whole image would be; ``whites`` as for ``opened``. Raises UnreadableError. Pillow's
    warnings are the caller's to silence, by ``quiet``.
    """
    return crop_square(open_image(path, 0 if crop else 2 * size, whites), size, crop)


def crop_square(image: Image.Image, size: int, crop: int | None = None) -> np.ndarray:
    """The middle of an RGB image as uint8 [3, size, size]."""
    side = min(*image.size, crop or image.width)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if crop:
        left, top = round(left), round(top)  # whole pixels: a crop of the right size is not interpolated
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


def open_image(path: Path, least: int = 0, whites: Whites | None = None) -> Image.Image:
    """An image as RGB, turned as its EXIF says, transparency over white.

    Levels of more than 8 bits are scaled as ``whites`` says, or ``white_level`` of this image alone. With ``least``, large
    JPEG files may be read at a fraction of their size, not below so many pixels a side. Pillow's limit on pixels holds,
    its warning included. Raises UnreadableError.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise ValueError(f"{image.width} x {image.height} is more than {limit:,} pixels")
            if least:
                image.draft(None, (least, least))
            with contextlib.suppress(KeyError, TypeError, SyntaxError, ZeroDivisionError):  # EXIF that is not EXIF
                ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image, whites)
    except Exception as error:  # a damaged file can make Pillow raise anything
        reason = str(error).replace(str(path), "").replace(" ''", "").strip() or type(error).__name__
        raise UnreadableError(f"{path}: {reason.splitlines()[0]}") from None


class Whites(NamedTuple):
    """White levels of a set of images with more than 8 bits: of whole numbers, and of floats."""

    whole: float
    real: float


class Look(NamedTuple):
    """Facts of an image before it is decoded: its size, and with more than 8 bits its largest level."""

    width: int
    height: int
    whole: float = 0.0  # of whole numbers
    real: float = 0.0  # of floats


def look(path: Path) -> Look:
    """At one image; zeros of what cannot be read, which ``opened`` names."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        if not _is_deep(image):
            return Look(*image.size)
        largest = float(_levels(image).max(initial=0))
        return Look(*image.size, 0.0, largest) if image.mode == "F" else Look(*image.size, largest, 0.0)
    return Look(0, 0)


def white_level(peak: float) -> float:
    """Choose the white level for a largest level: 1, the largest number of 8 to 16 bits, or the peak itself."""
    return 1.0 if peak <= 1 else next((2.0**bits - 1 for bits in range(8, 17) if peak < 2**bits), peak)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))  # 16-bit or 32-bit gray, which Pillow would clip


def _levels(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


def _rgb(image: Image.Image, whites: Whites | None) -> Image.Image:
    if _is_deep(image):
        levels = _levels(image)
        top = (whites.real if image.mode == "F" else whites.whole) if whites else white_level(levels.max(initial=0))
        image = Image.fromarray((levels * (255 / (top or 1))).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert("RGB")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings about files that can be read all the same. Not to be entered by several threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
