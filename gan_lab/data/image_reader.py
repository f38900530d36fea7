"""Read image files as RGB, or raise an error with the file name and the reason."""

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

# Gray modes of up to 8 bits.
GRAY_MODES = ("1", "L", "LA", "La")


class UnreadableError(UserError):
    """A file that is not an image, or is damaged."""


def read_image(path: Path) -> np.ndarray:
    """Read an image of any mode as uint8 RGB [3, H, W]. Raises UnreadableError with the path."""
    with silence_pillow():
        return np.array(open_image(path)).transpose(2, 0, 1)


@dataclass(frozen=True)
class Frame:
    """The format of all images of a set: height and width in pixels, cropping, color or gray."""

    height: int
    width: int
    fit: Literal["crop", "pad", "stretch"] = "crop"
    gray: bool = False

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.gray else 3


def read_framed(
    path: Path, frame: Frame, crop: int | None = None, white_levels: WhiteLevels | None = None
) -> np.ndarray:
    """Read an image file as uint8 [C, H, W] in the format of ``frame``, see ``put_into_frame``.

    The caller silences Pillow's warnings with ``silence_pillow``, which is not thread-safe.

    Args:
        path: The image file.
        frame: The target format.
        crop: Maximum side of the center crop in pixels before resizing.
        white_levels: See ``open_image``.

    Raises:
        UnreadableError: The file cannot be read.
    """
    min_side = 0 if crop else 2 * max(frame.height, frame.width)
    return put_into_frame(open_image(path, min_side, white_levels), frame, crop)


def put_into_frame(image: Image.Image, frame: Frame, crop: int | None = None) -> np.ndarray:
    """Convert an RGB image to uint8 [C, H, W] in the format of ``frame``, with antialiasing.

    ``frame.fit`` is "crop" (the largest center crop with the frame's aspect ratio, at most ``crop``
    pixels a side), "pad" (letterbox with replicated edges) or "stretch" (ignore the aspect ratio).
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
        if frame.fit == "stretch":
            crop_width, crop_height = float(width), float(height)
        else:
            crop_width, crop_height = scale * frame.width, scale * frame.height
        crop_width = min(crop_width, crop or crop_width)
        crop_height = min(crop_height, crop or crop_height)
        left, top = (width - crop_width) / 2, (height - crop_height) / 2
        if crop:
            # At whole pixels, a crop of the target size is not interpolated.
            left, top = round(left), round(top)
        box = (left, top, left + crop_width, top + crop_height)
        pixels = np.array(image.resize((frame.width, frame.height), Image.Resampling.BILINEAR, box))
    return pixels[None] if frame.gray else pixels.transpose(2, 0, 1)


def open_image(
    path: Path, min_side: int = 0, white_levels: WhiteLevels | None = None
) -> Image.Image:
    """Open an image as RGB, with its EXIF orientation applied and transparency over white.

    Args:
        path: The image file.
        min_side: Decode large JPEG files at a reduced size, but not below this side in pixels.
        white_levels: White levels for images of more than 8 bits; None: inferred from this image.

    Raises:
        UnreadableError: The file is damaged, or larger than Pillow's pixel limit.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise UserError(f"{image.width} x {image.height} is more than {limit:,} pixels")
            if min_side:
                image.draft(None, (min_side, min_side))
            # Invalid EXIF data.
            with contextlib.suppress(KeyError, TypeError, SyntaxError, ZeroDivisionError):
                ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image, white_levels)
    # Pillow can raise anything for a damaged file.
    except Exception as error:
        reason = str(error).replace(str(path), "").replace(" ''", "").strip()
        reason = reason or type(error).__name__
        raise UnreadableError(f"{path}: {reason.splitlines()[0]}") from None


class WhiteLevels(NamedTuple):
    """White levels of the images of a set with more than 8 bits: of integer and of float images."""

    integer: float
    floating: float


class ImageFacts(NamedTuple):
    """Size of an image in pixels; for more than 8 bits, its largest value; and 1 if it is gray."""

    width: int
    height: int
    integer_peak: float = 0.0
    float_peak: float = 0.0
    gray: float = 0.0


def inspect_image(path: Path) -> ImageFacts:
    """Inspect an image file; zeros if it is unreadable. ``open_image`` reports the reason."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        gray = float(image.mode in GRAY_MODES or is_deep(image))
        if not is_deep(image):
            return ImageFacts(*image.size, gray=gray)
        peak = float(_read_levels(image).max(initial=0))
        if image.mode == "F":
            return ImageFacts(*image.size, float_peak=peak, gray=gray)
        return ImageFacts(*image.size, integer_peak=peak, gray=gray)
    return ImageFacts(0, 0)


def infer_white_level(peak: float) -> float:
    """Infer the white level from the largest value: 1, the maximum of 8 to 16 bits, or the peak."""
    if peak <= 1:
        return 1.0
    for bits in range(8, 17):
        if peak < 2**bits:
            return 2.0**bits - 1
    return peak


def is_deep(image: Image.Image) -> bool:
    """True if an image has more than 8 bits per channel."""
    # 16-bit or 32-bit gray, which Pillow would clip.
    return image.mode.startswith(("I", "F"))


def _read_levels(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


def to_rgb(image: Image.Image, white_levels: WhiteLevels | None = None) -> Image.Image:
    """Convert an image of any mode to RGB, transparency over white; see ``open_image``."""
    if is_deep(image):
        levels = _read_levels(image)
        if white_levels is None:
            white = infer_white_level(levels.max(initial=0))
        else:
            white = white_levels.floating if image.mode == "F" else white_levels.integer
        scaled = levels * (255 / (white or 1))
        image = Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert("RGB")


@contextlib.contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about files that it can read. Not thread-safe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
