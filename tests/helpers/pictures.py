"""Files for the tests of data sets: images of every mode, and what is wrong with those of users."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def noise(width: int = 24, height: int = 20, seed: int = 0) -> Image.Image:
    """An RGB picture that is nowhere flat."""
    values = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def smooth_noise(folder: Path, seed: int, n: int, size: int) -> Tensor:
    """Smooth color noise as PNG files, and what is in them."""
    coarse = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = (
        torch.nn.functional.interpolate(coarse + 0.2 * (seed % 2), (size, size), mode="bilinear")
        * 200
    )
    pixels = smooth.to(torch.uint8)
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:03d}.png")
    return pixels


def flat(
    path: Path,
    colour: tuple[int, ...] | int | str,
    size: tuple[int, int] = (12, 10),
    mode: str = "RGB",
) -> Path:
    """A picture of one color, saved as PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def black(width: int, height: int) -> bytes:
    """A PNG file of one bit per pixel, as small as such a file is, without the pixels in memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((1 + width // 8) * height))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def every_mode(folder: Path) -> int:
    """Write an image of every mode and fault that can be read; their number."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = noise()
    for mode, ending in {"RGB": "jpg", "L": "png", "LA": "png", "P": "gif", "RGBA": "png",
                         "CMYK": "jpg", "1": "png", "YCbCr": "jpg",
                         "LAB": "tiff"}.items():  # fmt: skip
        picture.convert(mode).save(folder / f"{mode}.{ending}")
    picture.convert("P").save(folder / "transparent palette.png", transparency=3)
    levels = np.asarray(picture.convert("L"))
    Image.fromarray(levels.astype(np.uint16) * 257).save(folder / "sixteen bits.PNG")
    Image.fromarray(levels.astype(np.float32) / 255).save(folder / "float.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    picture.resize((3, 90)).save(folder / "narrow.webp")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "up again").symlink_to(folder)
    picture.save(folder / "deeper" / "nested.bmp")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"not an image either")
    return 15


def every_fault(folder: Path) -> dict[str, str]:
    """Write files that cannot be read; their names with the reasons that must be given."""
    folder.mkdir(parents=True, exist_ok=True)
    noise(200, 200).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    (folder / "page.png").write_text("<html>Quota exceeded</html>")
    (folder / "bomb.png").write_bytes(black(20_000, 9_000))
    (folder / "large.png").write_bytes(black(10_000, 9_000))  # of which Pillow warns only
    return {
        "truncated.jpg": "image file is truncated",
        "empty.png": "the file is empty",
        "page.png": "a web page, not an image",
        "bomb.png": "more than 178,956,970 pixels: downscale it",
        "large.png": "10000 x 9000 is more than 89,478,485 pixels",
    }
