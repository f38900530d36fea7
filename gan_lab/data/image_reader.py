"""Each image file as RGB, or refused with its name and the reason."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from gan_lab.utils.errors import UserError

GRAY = ("1", "L", "LA", "La")  # modes without colour, beside those of more than 8 bits


class UnreadableError(UserError):
    """A file that holds no image, or not the whole of one."""


def read(path: Path) -> np.ndarray:
    """An image of any mode as uint8 RGB [3, H, W]. Raises UnreadableError, which names the file."""
    with quiet():
        return np.array(open_image(path)).transpose(2, 0, 1)


@dataclass(frozen=True)
class Frame:
    """The form that each image of a set is brought to: height and width in pixels, in which way, and whether without colour."""

    height: int
    width: int
    fit: Literal["crop", "pad", "stretch"] = "crop"
    gray: bool = False

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.gray else 3


def framed(
    path: Path, frame: Frame, crop: int | None = None, whites: Whites | None = None
) -> np.ndarray:
    """An image file as uint8 [C, H, W] of a frame, as ``put_into_frame``; ``whites`` as for ``open_image``.

    Raises UnreadableError. Pillow's warnings are the caller's to silence, by ``quiet``.
    """
    least = 0 if crop else 2 * max(frame.height, frame.width)
    return put_into_frame(open_image(path, least, whites), frame, crop)


def put_into_frame(image: Image.Image, frame: Frame, crop: int | None = None) -> np.ndarray:
    """An RGB image as uint8 [C, H, W] of a frame, resized with antialias.

    ``frame.fit`` takes the largest part of the middle that has the frame's shape, or no more than ``crop`` pixels a side
    of it; or the whole with its edge repeated around it; or the whole, out of shape.
    """
    image = image.convert("L") if frame.gray else image
    width, height = image.size
    if frame.fit == "pad":
        shrink = min(frame.width / width, frame.height / height)
        inner = max(1, round(width * shrink)), max(1, round(height * shrink))
        pixels = np.array(image.resize(inner, Image.Resampling.BILINEAR))
        free = (frame.height - inner[1], frame.width - inner[0])
        sides = [(n // 2, n - n // 2) for n in free] + [(0, 0)] * (pixels.ndim - 2)
        pixels = np.pad(pixels, sides, mode="edge")
    else:
        scale = min(width / frame.width, height / frame.height)
        wide, high = (
            (width, height)
            if frame.fit == "stretch"
            else (scale * frame.width, scale * frame.height)
        )
        wide, high = min(wide, crop or wide), min(high, crop or high)
        left, top = (width - wide) / 2, (height - high) / 2
        if crop:
            left, top = (
                round(left),
                round(top),
            )  # whole pixels: a crop of the right size is not interpolated
        box = (left, top, left + wide, top + high)
        pixels = np.array(image.resize((frame.width, frame.height), Image.Resampling.BILINEAR, box))
    return pixels[None] if frame.gray else pixels.transpose(2, 0, 1)


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
                raise UserError(f"{image.width} x {image.height} is more than {limit:,} pixels")
            if least:
                image.draft(None, (least, least))
            with contextlib.suppress(
                KeyError, TypeError, SyntaxError, ZeroDivisionError
            ):  # EXIF that is not EXIF
                ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image, whites)
    except Exception as error:  # a damaged file can make Pillow raise anything
        reason = (
            str(error).replace(str(path), "").replace(" ''", "").strip() or type(error).__name__
        )
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
    gray: float = 0.0  # 1 if it has no colour


def look(path: Path) -> Look:
    """At one image; zeros of what cannot be read, which ``opened`` names."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        gray = float(image.mode in GRAY or is_deep(image))
        if not is_deep(image):
            return Look(*image.size, gray=gray)
        largest = float(_levels(image).max(initial=0))
        return Look(*image.size, *((0.0, largest) if image.mode == "F" else (largest, 0.0)), gray)
    return Look(0, 0)


def white_level(peak: float) -> float:
    """Choose the white level for a largest level: 1, the largest number of 8 to 16 bits, or the peak itself."""
    return (
        1.0 if peak <= 1 else next((2.0**bits - 1 for bits in range(8, 17) if peak < 2**bits), peak)
    )


def is_deep(image: Image.Image) -> bool:
    """True if an image has more than 8 bits per channel."""
    return image.mode.startswith(("I", "F"))  # 16-bit or 32-bit gray, which Pillow would clip


def _levels(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


def to_rgb(image: Image.Image, whites: Whites | None = None) -> Image.Image:
    """Convert an image of any mode to RGB, transparency over white; deep levels are scaled as in ``open_image``."""
    if is_deep(image):
        levels = _levels(image)
        top = (
            (whites.real if image.mode == "F" else whites.whole)
            if whites
            else white_level(levels.max(initial=0))
        )
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
