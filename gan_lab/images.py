"""Images between data, networks and files. The only place where pixel ranges change."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gan_lab.seeding import send_to_device
from gan_lab.utils.errors import UserError, import_extra
from gan_lab.utils.files import atomic_path


@dataclass(frozen=True)
class ImageSpec:
    """Description of a data set's images: their shape, their classes (0: unlabelled), and which scores make sense.

    For image-to-image sets also the inputs: ``source_channels`` (0: there are none) and ``pairs``, which says where
    input i is the counterpart of image i: nowhere, among the held-out images only (the truth of an unpaired set), or in
    all. Of "horses" input and image differ inside the animal alone.
    """

    channels: int
    height: int
    width: int
    classes: int = 0
    content: Literal["digits", "points", "photos", "horses"] = "photos"
    source_channels: int = 0
    pairs: Literal["none", "held out", "all"] = "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class Batch(NamedTuple):
    """Images [B, C, H, W], float in [-1, 1] once they are on the device; where there are any, labels [B] int64 (-1: not
    shown) and sources [B, C', H, W], the inputs of an image-to-image family."""

    images: Tensor
    labels: Tensor | None = None
    sources: Tensor | None = None
    alternating_labels: bool = False  # rows 0, 2, 4 ... show their labels and the others do not: known without asking the device

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change of images and sources."""
        sources = None if self.sources is None else change(self.sources)
        return self._replace(images=change(self.images), sources=sources)

    def to_device(self, device: torch.device, dtype: Any = None) -> Batch:
        """On a device, images and sources as this floating type, or as they are."""
        moved = self.map(lambda images: send_to_device(images, device, dtype))
        return moved._replace(
            labels=None if self.labels is None else send_to_device(self.labels, device)
        )

    def chunk(self, parts: int) -> list[Batch]:
        """As many batches of equal length, the first rows in the first."""
        nothing = [None] * parts
        labels, sources = (
            nothing if rows is None else rows.chunk(parts) for rows in (self.labels, self.sources)
        )
        every = zip(self.images.chunk(parts), labels, sources, strict=True)
        return [Batch(*rows, self.alternating_labels) for rows in every]

    def shown(self) -> list[Tensor]:
        """Images for a grid of reals: the sources, if there are any, and the images."""
        return [self.images] if self.sources is None else [self.sources, self.images]


def to_unit(pixels: Tensor) -> Tensor:
    """Pixels 0..255 (uint8) as float32 in [-1, 1]: x / 127.5 - 1. Floats are taken to be in range already."""
    # sums and products are rounded alike on every device; a GPU divides by a number as it multiplies by its inverse
    return pixels.float().sub_(127.5).mul_(1 / 127.5) if pixels.dtype == torch.uint8 else pixels


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as pixels 0..255 (uint8): clamped, then rounded, so that 1.01 is white and never wraps."""
    return images.float().add(1.0).mul(127.5).clamp(0, 255).round().to(torch.uint8)


def to_gray(images: Tensor) -> Tensor:
    """The luma of colour images [B, 3, H, W], [B, 1, H, W]: 0.299 R + 0.587 G + 0.114 B; gray ones as they are.

    Source: ITU-R BT.601.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """Images [B, C, H, W], those of ``which`` [B] (bool) with left and right exchanged."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def interleave(sets: Sequence[Tensor], columns: int) -> tuple[Tensor, int]:
    """Images for a grid and its number of columns: one set as it is; of several, image i of each side by side.

    Sets are [B, 1 or C, H, W]; of several, as many images are shown as make eight rows.
    """
    if len(sets) == 1:
        return sets[0], columns
    abreast = max(1, 8 // len(sets))
    channels = max(images.shape[1] for images in sets)
    shown = [images[: 8 * abreast].expand(-1, channels, -1, -1) for images in sets]
    return torch.stack(shown, dim=1).flatten(0, 1), abreast * len(sets)


def grid(images: Tensor, columns: int) -> Tensor:
    """Images [B, C, H, W] in [-1, 1] as one picture [3, H', W'] in [0, 1], row by row; 2-D points as a scatter."""
    if images.shape[1:] == (2, 1, 1):
        return scatter(images)
    return make_grid(to_uint8(images).float() / 255, nrow=columns, padding=2, pad_value=0.25)


def scatter(points: Tensor, size: int = 256) -> Tensor:
    """Points [B, 2, 1, 1] in [-1, 1] as a picture [3, size, size] in [0, 1], dark on white, y upwards."""
    x, y = (
        ((points.detach().float().cpu().flatten(1).T + 1) / 2 * (size - 1))
        .round()
        .long()
        .clamp(0, size - 1)
    )
    counts = torch.zeros(size, size).index_put_(
        (size - 1 - y, x), torch.ones(len(x)), accumulate=True
    )
    return (1 - counts.clamp(max=3) / 3).expand(3, size, size)


def draw_grid(images: Tensor, columns: int) -> Image.Image:
    """Draw ``grid`` as a picture."""
    return to_pil_image(grid(images.detach().cpu(), columns).add(0.5 / 255))


def save_grid(images: Tensor, columns: int, path: Path, rows: Sequence[str] = ()) -> None:
    """Write ``grid`` as a PNG file, complete or not at all; ``rows`` are written beside its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_grid(images, columns)
    with atomic_path(path) as unfinished:
        (add_captions(picture, rows) if rows else picture).save(unfinished, format="png")


def save_each(images: Tensor, folder: Path, seed: int, classes: Sequence[str] = ()) -> None:
    """Write images [N, C, H, W] in [-1, 1] as PNG files whose names have their number, the seed and the class.

    Raises UserError for points, and for a folder that is there and not empty: a program that reads it would find more
    than these.
    """
    if images.shape[1] == 2:
        raise UserError("points are no images: there is nothing to write as PNG")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    endings = [f"-class{re.sub('[^A-Za-z0-9_.-]+', '_', name)}" for name in classes] or [""] * len(
        images
    )
    for i, (pixels, ending) in enumerate(
        zip(to_uint8(images).permute(0, 2, 3, 1).numpy(), endings, strict=True)
    ):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.save(folder / f"{i:05}-seed{seed}{ending}.png")


def save_video(frames: Iterable[Tensor], columns: int, path: Path, per_second: int = 25) -> None:
    """Write grids of images [N, C, H, W] as an endless GIF or an MP4, complete or not at all; small ones enlarged.

    Raises UserError for another ending, and for MP4 where the package av is not installed, before a frame is taken.
    """
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"{path}: a film ends in .gif or .mp4")
    if path.suffix.lower() == ".mp4":
        import_extra("av", "video", f"{path} (a .gif needs no package)")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (_enlarged(draw_grid(images, columns)) for images in frames)
    with atomic_path(path) as unfinished:
        if path.suffix.lower() == ".gif":
            first = next(pictures)
            first.save(
                unfinished,
                "gif",
                save_all=True,
                append_images=pictures,
                duration=1000 // per_second,
                loop=0,
            )
        else:
            _save_mp4(pictures, unfinished, per_second)


def _enlarged(picture: Image.Image, least: int = 256) -> Image.Image:
    """A picture as many times as large as makes its shorter side ``least`` at least, and both even: codecs halve them."""
    times = math.ceil(least / min(picture.size))
    picture = picture.resize(
        (picture.width * times, picture.height * times), Image.Resampling.NEAREST
    )
    return picture.crop(
        (0, 0, picture.width + picture.width % 2, picture.height + picture.height % 2)
    )


def _save_mp4(pictures: Iterable[Image.Image], path: Path, per_second: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as film:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = film.add_stream("libx264", rate=per_second, options={"crf": "18"})
                stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
            film.mux(stream.encode(av.VideoFrame.from_image(picture)))
        if stream is not None:
            film.mux(stream.encode())


def add_captions(picture: Image.Image, rows: Sequence[str]) -> Image.Image:
    """A grid with a name to the left of each of its rows."""
    font = ImageFont.load_default(size=12)
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in rows]
    margin = math.ceil(max(font.getlength(name) for name in shown)) + 8
    wider = Image.new("RGB", (picture.width + margin, picture.height), "white")
    wider.paste(picture, (margin, 0))
    for row, name in enumerate(shown):
        place = margin - 4, (row + 0.5) * picture.height / len(rows)
        ImageDraw.Draw(wider).text(place, name, "black", font, anchor="rm")
    return wider


def jitter(images: Tensor, by: int, corners: Tensor) -> Tensor:
    """Images [B, C, H, W] enlarged by so many pixels a side, then each cropped to its size at its own corner.

    ``corners`` are [B, 2] in [0, 1): down and right, in shares of what is possible.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 6.2.
    """
    height, width = images.shape[-2:]
    larger = torch.nn.functional.interpolate(images, (height + by, width + by), mode="bilinear")
    at = (corners * (by + 1)).long().tolist()
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(larger, at, strict=True)]
    )


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Images uint8 [N, C, H, W] as uint8 [N, C, size, size], bilinear with antialias."""
    if images.shape[-2:] == (size, size):
        return images
    pixels: Tensor = torch.from_numpy(images).float()
    pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels.clamp(0, 255).round().to(torch.uint8).numpy()
