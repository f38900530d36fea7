"""Read image files as RGB, or raise an error with the file name and the reason."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gan_lab.utils.errors import UserError

# Gray modes of up to 8 bits.
GRAY_MODES = ("1", "L", "LA", "La")
FIT_DESCRIPTIONS = {"crop": "center-cropped", "pad": "letterboxed", "stretch": "stretched"}
# The first bytes of image formats that Pillow does not decode.
UNSUPPORTED_MAGIC_NUMBERS = (b"8BPS", b"v/1\x01", b"\xff\x0a", b"\0\0\0\x0cJXL ")
# Bytes 4 to 12 of HEIF files. Those of AVIF files, which Pillow decodes, are ftypavif.
HEIF_BRANDS = (b"ftyphe", b"ftypmif1", b"ftypmsf1")
# Interpolated float images may leave [0, 1] or [-1, 1] by this much.
RANGE_TOLERANCE = 1e-3
# Black and white of integer and of float images.
MAX_LEVELS = 4


class UnreadableError(UserError):
    """A file that is not an image, or is damaged."""


def read_image(path: Path, levels: Levels | None = None, background: str = "white") -> np.ndarray:
    """Read an image of any mode as uint8 RGB [3, H, W]. Raises UnreadableError with the path."""
    with silence_pillow():
        image = open_image(path, levels=levels, background=background)
        return np.array(image).transpose(2, 0, 1)


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
    path: str | Path, frame: Frame, crop: int | None = None, levels: Levels | None = None
) -> np.ndarray:
    """Read an image file as uint8 [C, H, W] in the format of ``frame``, see ``put_into_frame``.

    The caller silences Pillow's warnings with ``silence_pillow``, which is not thread-safe.

    Args:
        path: The image file.
        frame: The target format.
        crop: Maximum side of the center crop in pixels before resizing.
        levels: See ``open_image``.

    Raises:
        UnreadableError: The file cannot be read.
    """
    min_side = 0 if crop else 2 * max(frame.height, frame.width)
    return put_into_frame(open_image(path, min_side, levels), frame, crop)


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
    path: str | Path,
    min_side: int = 0,
    levels: Levels | None = None,
    background: str = "white",
) -> Image.Image:
    """Open an image as RGB, with its EXIF orientation applied.

    Args:
        path: The image file.
        min_side: Decode large JPEG files at a reduced size, but not below this side in pixels.
        levels: Black and white levels of images with more than 8 bits; None: inferred from this
            image.
        background: Color under transparent pixels.

    Raises:
        UnreadableError: The file is damaged, is larger than Pillow's pixel limit, or has NaN or
            Inf pixels.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise UserError(
                    f"{image.width} x {image.height} is more than {limit:,} pixels: downscale it"
                )
            if min_side:
                image.draft(None, (min_side, min_side))
            # Invalid EXIF data.
            with contextlib.suppress(KeyError, TypeError, SyntaxError, ZeroDivisionError):
                ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image, levels, background)
    except Image.DecompressionBombError:
        # twice the limit below
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnreadableError(f"{path}: more than {limit:,} pixels: downscale it") from None
    except UnidentifiedImageError:
        raise UnreadableError(f"{path}: {_describe_content(path)}") from None
    # Pillow can raise anything for a damaged file.
    except Exception as error:
        reason = str(error).replace(str(path), "").replace(" ''", "").strip()
        reason = reason or type(error).__name__
        raise UnreadableError(f"{path}: {reason.splitlines()[0]}") from None


def _describe_content(path: str | Path) -> str:
    """Say what a file is that Pillow does not identify, from its first bytes."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(512)
        if not start:
            return "the file is empty"
        if start[4:].startswith(HEIF_BRANDS):
            return "a HEIC image: convert it to PNG or JPEG"
        if start.startswith(UNSUPPORTED_MAGIC_NUMBERS):
            return "an image in a format that Pillow does not read: convert it to PNG or JPEG"
        if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "a web page, not an image: download it again"
        if start.startswith(b"version https://git-lfs"):
            return "a pointer of Git LFS, not the image: run git lfs pull"
    return "cannot identify image file"


class Levels(NamedTuple):
    """Black and white levels of the images of a set with more than 8 bits.

    Levels 0 and 0 mean that the set has no integer, or no float, images.
    """

    integer_black: float = 0.0
    integer_white: float = 0.0
    float_black: float = 0.0
    float_white: float = 0.0

    @classmethod
    def parse(cls, values: Sequence[float]) -> Levels | None:
        """Convert ``data.levels``: [], [black, white], or two each for integer and float images.

        Raises:
            UserError: There are other than 0, 2 or 4 numbers, or white is not above black.
        """
        if not values:
            return None
        pairs = [*values, *values] if len(values) == 2 else [*values]
        is_valid = len(pairs) == 4 and all(map(math.isfinite, pairs))
        levels = cls(*pairs) if is_valid else cls()
        if not is_valid or not all(
            low < high or low == high == 0 for low, high in (levels[:2], levels[2:])
        ):
            raise UserError(
                f"data.levels={list(values)} are no black and white levels. Set two increasing "
                "numbers, such as data.levels=[0,4095]."
            )
        return levels

    def of(self, image: Image.Image) -> tuple[float, float]:
        """Return the levels for an image; (0, 0) if they are unknown."""
        return self[2:] if image.mode == "F" else self[:2]

    def __str__(self) -> str:
        pairs = (self[:2], self[2:])
        return " and ".join(f"{black:g} to {white:g}" for black, white in pairs if white > black)


class ImageFacts(NamedTuple):
    """Size of an image in pixels; whether it is gray; and the range of more than 8 bits.

    ``depth`` is 0 for up to 8 bits, 1 for integers and 2 for floats. Of color images with 16 bits
    per channel Pillow reads the upper 8 bits: ``color_levels`` is 1 + their maximum, and 0 for
    other images. ``has_frames`` is 1 for animations and files of several pages.
    """

    width: int = 0
    height: int = 0
    gray: float = 0.0
    depth: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    color_levels: int = 0
    has_frames: float = 0.0


def inspect_image(file: str | Path | IO[bytes]) -> ImageFacts:
    """Inspect an image file; zeros if it is unreadable. ``open_image`` reports the reason."""
    with contextlib.suppress(Exception), Image.open(file) as image:
        if not is_deep(image):
            gray = float(image.mode in GRAY_MODES)
            # The views of a camera (MPO) are no animation.
            has_frames = float(getattr(image, "is_animated", False) and image.format != "MPO")
            color_levels = 1 + _find_maximum(image) if _has_deep_colors(image) else 0
            return ImageFacts(
                *image.size, gray=gray, color_levels=color_levels, has_frames=has_frames
            )
        has_frames = float(getattr(image, "is_animated", False))
        levels = _read_levels(image)
        depth = 2 if image.mode == "F" else 1
        return ImageFacts(
            *image.size,
            gray=1.0,
            depth=depth,
            lowest=float(levels.min()),
            highest=float(levels.max()),
            has_frames=has_frames,
        )
    return ImageFacts()


def infer_levels(lowest: float, highest: float) -> tuple[float, float]:
    """Infer the black and the white level from the range of values.

    Black is 0 and white is 1, the maximum of 8 to 16 bits, or the largest value. With negative
    values, they are -1 and 1, or the range itself.

    Raises:
        UserError: Negative values in a range that is neither clearly [0, 1] nor [-1, 1].
    """
    if lowest >= -RANGE_TOLERANCE * max(1.0, highest):
        if highest <= 1 + RANGE_TOLERANCE:
            return 0.0, 1.0
        for bits in range(8, 17):
            if highest < 2**bits:
                return 0.0, 2.0**bits - 1
        return 0.0, highest
    if lowest < -1 - RANGE_TOLERANCE or highest > 1 + RANGE_TOLERANCE:
        return lowest, highest
    # Images in [0, 1] after a subtraction span at most 1.
    if highest - lowest <= 1:
        raise UserError(
            f"values from {lowest:.4g} to {highest:.4g}, neither clearly [0, 1] nor [-1, 1]"
        )
    return -1.0, 1.0


def is_deep(image: Image.Image) -> bool:
    """True if an image has more than 8 bits per channel."""
    # 16-bit or 32-bit gray, which Pillow would clip.
    return image.mode.startswith(("I", "F"))


def _has_deep_colors(image: Image.Image) -> bool:
    """True if an image has colors of 16 bits, of which Pillow reads the upper 8 bits."""
    # The raw mode, such as RGB;16B, is one of the decoder's arguments.
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _find_maximum(image: Image.Image) -> int:
    """Return the maximum of all channels, except that of transparency."""
    colors = np.asarray(image.convert("RGB" if image.mode.startswith("RGB") else "L"))
    return int(colors.max(initial=0))


def _read_levels(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image, dtype=np.float64)
    if not np.isfinite(levels).all():
        raise UserError("contains NaN or Inf pixels")
    return levels


def to_rgb(
    image: Image.Image, levels: Levels | None = None, background: str = "white"
) -> Image.Image:
    """Convert an image of any mode to RGB; see ``open_image``."""
    if is_deep(image):
        values = _read_levels(image)
        black, white = levels.of(image) if levels else (0.0, 0.0)
        if black == white:
            black, white = infer_levels(values.min(initial=0), values.max(initial=0))
        scaled = (values - black) * (255 / (white - black))
        image = Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, background), solid).convert(
            "RGB"
        )
    return image.convert("RGB")


@contextlib.contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about files that it can read. Not thread-safe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
