"""Image batches, pixel ranges, grids and files. Pixel ranges change only in this module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_lab.seeding import send_to_device
from gan_lab.utils.errors import UserError, import_extra
from gan_lab.utils.files import atomic_path, make_file_name
from gan_lab.utils.output import OutputFiles, remove_earlier
from gan_lab.utils.provenance import GRID_PADDING, save_png

DegradationKind = Literal["none", "gray", "mask", "downsample", "noise", "edges"]
# weights of red, green and blue (ITU-R BT.601)
LUMA = (0.299, 0.587, 0.114)
# Level of the lines between the images of a grid.
GRID_LEVEL = 0.25


@dataclass(frozen=True)
class ImageSpec:
    """Description of the images of a data set.

    Attributes:
        channels: Number of channels.
        height: Height in pixels.
        width: Width in pixels.
        classes: Number of classes; 0: unlabeled.
        content: Decides which metrics apply. For "horses", source and image differ only inside the
            animal.
        source_channels: Number of channels of the sources in image-to-image translation; 0: there
            are no sources.
        pairs: Where source i and image i are a pair: nowhere, among held-out images only (the
            ground truth of an unpaired set), or everywhere.
        degradation: How the sources are made from the images. With "mask", the last channel of the
            sources is the mask.
    """

    channels: int
    height: int
    width: int
    classes: int = 0
    content: Literal["digits", "points", "photos", "horses"] = "photos"
    source_channels: int = 0
    pairs: Literal["none", "held out", "all"] = "none"
    degradation: DegradationKind = "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class Batch(NamedTuple):
    """A batch of images, with optional labels and sources.

    Attributes:
        images: [B, C, H, W], floats in [-1, 1] once they are on the device.
        labels: [B] int64; -1: hidden.
        sources: [B, C', H, W], the inputs of image-to-image translation. C' is C + 1 if the last
            channel is the mask of a hole.
        alternating_labels: Whether only rows 0, 2, 4 ... have labels. Checking the labels
            themselves would synchronize with the device.
    """

    images: Tensor
    labels: Tensor | None = None
    sources: Tensor | None = None
    alternating_labels: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to images and sources."""
        sources = None if self.sources is None else change(self.sources)
        return self._replace(images=change(self.images), sources=sources)

    def to_device(self, device: torch.device, dtype: Any = None) -> Batch:
        """Move to a device, optionally converting images and sources to a floating-point type."""
        moved = self.map(lambda images: send_to_device(images, device, dtype))
        return moved._replace(
            labels=None if self.labels is None else send_to_device(self.labels, device)
        )

    def chunk(self, parts: int) -> list[Batch]:
        """Split into batches of equal length, in order."""
        missing = [None] * parts
        labels = missing if self.labels is None else self.labels.chunk(parts)
        sources = missing if self.sources is None else self.sources.chunk(parts)
        chunks = zip(self.images.chunk(parts), labels, sources, strict=True)
        return [Batch(*rows, self.alternating_labels) for rows in chunks]

    def shown(self) -> list[Tensor]:
        """Return the sets of images for a grid of reals: the sources, if any, and the images."""
        return [self.images] if self.sources is None else [self.source_images, self.images]

    @property
    def source_images(self) -> Tensor:
        """The sources without the mask of a hole."""
        assert self.sources is not None
        channels = self.images.shape[1]
        return self.sources[:, :channels] if self.source_mask is not None else self.sources

    @property
    def source_mask(self) -> Tensor | None:
        """The mask of a hole, [B, 1, H, W]; None if the sources have none."""
        assert self.sources is not None
        channels = self.images.shape[1]
        return self.sources[:, channels:] if self.sources.shape[1] == channels + 1 else None


def to_unit(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [-1, 1]: x / 127.5 - 1. Floats are returned unchanged."""
    # Subtraction and multiplication round equally on every device; a GPU replaces division by a
    # number with multiplication by its inverse.
    return pixels.float().sub_(127.5).mul_(1 / 127.5) if pixels.dtype == torch.uint8 else pixels


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to uint8: clamped, then rounded, so that 1.01 does not wrap."""
    return images.float().add(1.0).mul(127.5).clamp(0, 255).round().to(torch.uint8)


def to_gray(images: Tensor) -> Tensor:
    """Convert RGB images [B, 3, H, W] to luma [B, 1, H, W]; gray images are returned unchanged.

    Source: ITU-R BT.601.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """Flip the images [B, C, H, W] with ``which`` [B] (bool) horizontally."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def interleave(sets: Sequence[Tensor], columns: int) -> tuple[Tensor, int]:
    """Arrange sets of images for a grid; return the images and the number of columns.

    One set [B, C, H, W] is returned unchanged. For several sets [B, 1 or C, H, W], images with the
    same index are next to each other, in up to eight rows.
    """
    if len(sets) == 1:
        return sets[0], columns
    per_row = max(1, 8 // len(sets))
    channels = max(images.shape[1] for images in sets)
    shown = [images[: 8 * per_row].expand(-1, channels, -1, -1) for images in sets]
    return torch.stack(shown, dim=1).flatten(0, 1), per_row * len(sets)


def grid(images: Tensor, columns: int) -> Tensor:
    """Tile images [B, C, H, W] in [-1, 1] to one image [3, H', W'] in [0, 1]; plot 2-D points."""
    if images.shape[1:] == (2, 1, 1):
        return scatter(images)
    return tile(to_uint8(images).float() / 255, columns)


def tile(images: Tensor, columns: int) -> Tensor:
    """Tile images [B, 1 or 3, H, W] with dark gray lines between them to one image [3, H', W'].

    The values are those of ``torchvision.utils.make_grid``, whose import takes longer than that of
    torch. Like there, one image is returned without a frame.
    """
    images = images.expand(-1, 3, -1, -1)
    if len(images) == 1:
        return images[0]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    height, width = (size + GRID_PADDING for size in images.shape[2:])
    tiled = images.new_full(
        (3, rows * height + GRID_PADDING, columns * width + GRID_PADDING), GRID_LEVEL
    )
    for i, image in enumerate(images):
        top = i // columns * height + GRID_PADDING
        left = i % columns * width + GRID_PADDING
        tiled[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return tiled


def scatter(points: Tensor, size: int = 256) -> Tensor:
    """Plot points [B, 2, 1, 1] in [-1, 1] as an image [3, size, size] in [0, 1], y upwards."""
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
    """Draw ``grid`` as a PIL image."""
    pixels = grid(images.detach().cpu(), columns).add(0.5 / 255).mul(255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def pil_to_tensor(image: Image.Image) -> Tensor:
    """Convert a PIL image to a tensor [C, H, W] of its pixel values, as torchvision does."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.view(image.height, image.width, len(image.getbands())).permute(2, 0, 1)


def save_grid(
    images: Tensor,
    columns: int,
    path: Path,
    rows: Sequence[str] = (),
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write ``grid`` as a PNG file, atomically.

    Args:
        images: The images.
        columns: Images in a row.
        path: The file.
        rows: Captions to the left of the rows.
        record: How the images were generated, see ``utils/provenance.py``. Without one the file is
            still marked as output of the lab.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_grid(images, columns)
    if rows:
        picture = add_captions(picture, rows)
    with atomic_path(path) as unfinished:
        save_png(picture, unfinished, record or {"output": "grid"})


def save_rgb(image: Tensor, path: Path, record: Mapping[str, Any]) -> None:
    """Write an image [1 or 3, H, W] in [-1, 1] as an RGB PNG file with its record."""
    pixels = to_uint8(image).expand(3, -1, -1).permute(1, 2, 0)
    save_png(Image.fromarray(pixels.contiguous().numpy()), path, record)


def save_each(
    images: Tensor,
    folder: Path,
    seed: int,
    classes: Sequence[str] = (),
    overwrite: bool = False,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write images [N, C, H, W] in [-1, 1] as PNG files named by index, seed and class.

    Args:
        images: The images.
        folder: A new or empty folder. Programs that read it would find other images too.
        seed: The seed, for the names.
        classes: The class of each image, for the names.
        overwrite: Replace all images that an earlier call wrote into the folder.
        record: How the images were generated; index and class of each are added.

    Raises:
        UserError: The images are points, or the folder contains other files.
    """
    if images.shape[1] == 2:
        raise UserError("Points cannot be written as PNG files. Use a data set of images.")
    files = OutputFiles(overwrite)
    earlier = files.check_folder(folder)
    endings = [f"-class{name}" for name in classes] or [""] * len(images)
    paths = [
        folder / f"{make_file_name(f'{i:05}-seed{seed}{ending}')}.png"
        for i, ending in enumerate(endings)
    ]
    # all at once: a check reads the manifest of the folder
    files.check(*paths)
    all_pixels = to_uint8(images).permute(0, 2, 3, 1).numpy()
    for i, (path, pixels) in enumerate(zip(paths, all_pixels, strict=True)):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        label = {"class": classes[i]} if classes else {}
        with files.write(path) as unfinished:
            save_png(
                picture, unfinished, {**(record or {}), "output": "sample", "index": i} | label
            )
    remove_earlier(folder, earlier, {path.name for path in paths})


def check_video_path(path: Path) -> None:
    """Raise UserError if a path is neither .gif nor .mp4, or if MP4 needs the package av."""
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"Unsupported video format: {path}. Use a path that ends in .gif or .mp4.")
    if path.suffix.lower() == ".mp4":
        import_extra("av", "video", f"{path} (a .gif needs no package)")


def save_video(frames: Iterable[Tensor], columns: int, path: Path, per_second: int = 25) -> None:
    """Write grids of images [N, C, H, W] as a looping GIF or an MP4, upsampling small ones.

    Raises:
        UserError: See ``check_video_path``. Raised before the first frame is generated.
    """
    check_video_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (_enlarge(draw_grid(images, columns)) for images in frames)
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


def _enlarge(picture: Image.Image, min_side: int = 256) -> Image.Image:
    """Upsample by an integer to at least ``min_side``, with even sides, which codecs require."""
    times = math.ceil(min_side / min(picture.size))
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
    """Add a caption to the left of each row of a grid."""
    font = ImageFont.load_default(size=12)
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in rows]
    margin = math.ceil(max(font.getlength(name) for name in shown)) + 8
    wider = Image.new("RGB", (picture.width + margin, picture.height), "white")
    wider.paste(picture, (margin, 0))
    for row, name in enumerate(shown):
        position = margin - 4, (row + 0.5) * picture.height / len(rows)
        ImageDraw.Draw(wider).text(position, name, "black", font, anchor="rm")
    return wider


def jitter(images: Tensor, by: int, corners: Tensor) -> Tensor:
    """Upsample images [B, C, H, W] by ``by`` pixels and crop each back to its size at its corner.

    ``corners`` [B, 2] in [0, 1) are the vertical and horizontal positions within the free space.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 6.2.
    """
    height, width = images.shape[-2:]
    larger = torch.nn.functional.interpolate(images, (height + by, width + by), mode="bilinear")
    # Index with tensors, because slice bounds would have to be copied from the GPU.
    top, left = (corners * (by + 1)).long().unbind(dim=1)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    rows = top[:, None, None] + torch.arange(height, device=images.device)[:, None]
    columns = left[:, None, None] + torch.arange(width, device=images.device)
    return larger[image, :, rows, columns].permute(0, 3, 1, 2).contiguous()


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 images [N, C, H, W] to [N, C, size, size], bilinear with antialiasing."""
    if images.shape[-2:] == (size, size):
        return images
    pixels: Tensor = torch.from_numpy(images).float()
    pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels.clamp(0, 255).round().to(torch.uint8).numpy()
