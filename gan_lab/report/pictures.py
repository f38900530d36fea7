"""Images of a page as data URIs, within a budget of bytes for the whole page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from gan_lab.utils.errors import UserError
from gan_lab.utils.provenance import crop_generated, read_record, shows_only_generated

# Bytes of all images of a page before base64, which adds a third.
MAX_BYTES = 5_000_000
# Number of grids of a slider.
MAX_GRIDS = 60
# The same if the grids exceed the budget.
MAX_LARGE_GRIDS = 24
# Longest side in pixels and WebP quality, from the largest to the smallest file.
COMPRESSION_LEVELS = ((1400, 85), (1400, 60), (700, 60), (350, 50))


def select_evenly(items: Sequence[int], limit: int) -> list[int]:
    """Select up to ``limit`` of the items, evenly spaced, with the first and the last.

    >>> select_evenly(range(10), 4)
    [0, 3, 6, 9]
    >>> select_evenly([5, 7], 4)
    [5, 7]
    """
    if len(items) <= limit:
        return list(items)
    if limit < 2:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def compress_image(path: Path, budget: int, level: int = -1) -> tuple[bytes, int]:
    """Read an image file and compress it to the budget if possible.

    Args:
        path: The file.
        budget: Number of bytes.
        level: The first of ``COMPRESSION_LEVELS`` to try; -1: return a small file unchanged.

    Returns:
        The bytes, and their level; -1: unchanged.

    Raises:
        UserError: The image cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if level < 0 and path.stat().st_size <= budget:
                return path.read_bytes(), -1
            small = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for i in range(max(0, level), len(COMPRESSION_LEVELS)):
        side, quality = COMPRESSION_LEVELS[i]
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "WEBP", quality=quality, method=2)
        if file.tell() <= budget or i == len(COMPRESSION_LEVELS) - 1:
            return file.getvalue(), i
    raise AssertionError("the last level returns for any size")


def write_generated(
    grids: Sequence[tuple[int, Path]], folder: Path, only_generated: bool
) -> list[tuple[int, Path]]:
    """Write sample grids without their real images into a folder.

    Args:
        grids: The images seen and the file of each grid.
        folder: The folder for the new files.
        only_generated: Whether grids without a record, of earlier versions, show generated images
            only. Otherwise they are left out.
    """
    written = []
    for images, path in grids:
        try:
            record = read_record(path)
            if (record is None and only_generated) or (record and shows_only_generated(record)):
                written.append((images, path))
            elif picture := crop_generated(path):
                picture.save(folder / path.name)
                written.append((images, folder / path.name))
        # a damaged file, or one whose record does not fit, is left out
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return written


def encode_data_uri(data: bytes) -> str:
    """Encode the bytes of a WebP, PNG or JPEG image as a data URI."""
    kind = "webp" if data[:4] == b"RIFF" else "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def compress_images(paths: Sequence[Path], budget: int) -> tuple[dict[int, str], str]:
    """Encode grids as data URIs within a budget of bytes. Unreadable files are skipped and counted.

    Returns:
        Data URIs by index of the path, and a note on how the grids were reduced.
    """
    kept = select_evenly(range(len(paths)), MAX_GRIDS)
    fits = sum(paths[i].stat().st_size for i in kept) <= budget
    if not fits:
        kept = select_evenly(kept, MAX_LARGE_GRIDS)
    share = budget if fits else budget // max(1, len(kept))
    encoded, level = {}, -1
    # Begin with the last grid, which has the most detail: its level is enough for all others.
    for i in reversed(kept):
        try:
            encoded[i], level = compress_image(paths[i], share, level)
        except UserError:
            continue
    notes = [f"{len(kept)} of {len(paths)} grids, evenly spaced"] if len(kept) < len(paths) else []
    notes += (
        ["large ones compressed as WebP"]
        if any(data[:4] == b"RIFF" for data in encoded.values())
        else []
    )
    notes += [f"{len(kept) - len(encoded)} could not be read"] if len(encoded) < len(kept) else []
    return {i: encode_data_uri(encoded[i]) for i in kept if i in encoded}, "; ".join(notes)
