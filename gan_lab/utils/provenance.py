"""Records in PNG files: that the lab wrote an image, from which run, and how to draw it again.

A record is JSON in a tEXt chunk with the keyword ``gan-lab``, before the pixels. Copies keep it, so
that output of the lab is recognized in every folder. A record never contains a path: a run is named
by its experiment and id. It is not trusted, because anyone can write one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gan_lab import __version__

KEYWORD = "gan-lab"
SUFFIX = ".png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_RECORD_BYTES = 100_000
FILES_PER_TASK = 64
# pixels between the images of a grid, and around them
GRID_PADDING = 2


def make_png_info(record: Mapping[str, Any]) -> PngInfo:
    """Create the text chunks of a record, for ``PIL.Image.save(pnginfo=...)``."""
    info = PngInfo()
    # ASCII, because a tEXt chunk is Latin-1
    info.add_text(KEYWORD, json.dumps({**record, "version": __version__}))
    info.add_text("Software", f"gan-lab {__version__}")
    return info


def save_png(picture: Image.Image, file: Path, record: Mapping[str, Any]) -> None:
    """Write an image with its record to a PNG file."""
    picture.save(file, format="png", pnginfo=make_png_info(record))


def read_record(path: Path | str) -> dict[str, Any] | None:
    """Read the record of a PNG file; None if it has none or cannot be read."""
    try:
        with open(path, "rb") as file:
            return parse_record(file)
    except OSError:
        return None


def parse_record(file: IO[bytes]) -> dict[str, Any] | None:
    """Read the record of an open PNG file; None if it has none. Pixels are not read."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    while len(header := file.read(8)) == 8:
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind != b"tEXt" or length > MAX_RECORD_BYTES:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        keyword, _, text = file.read(length + 4)[:-4].partition(b"\0")
        if keyword == KEYWORD.encode():
            try:
                record = json.loads(text.decode("latin-1"))
            except ValueError:
                return None
            return record if isinstance(record, dict) else None
    return None


def find_recorded_images(paths: Iterable[str]) -> set[str]:
    """Return the paths of the PNG files that the lab wrote, also of copies."""
    candidates = [path for path in paths if path.lower().endswith(SUFFIX)]
    tasks = [candidates[i : i + FILES_PER_TASK] for i in range(0, len(candidates), FILES_PER_TASK)]

    def select(task: list[str]) -> list[str]:
        return [path for path in task if read_record(path) is not None]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        return {path for found in pool.map(select, tasks) for path in found}


def shows_only_generated(record: Mapping[str, Any]) -> bool:
    """Return True for the record of a sample grid without real or reconstructed images."""
    sets = record.get("sets") or []
    return record.get("output") == "training grid" and set(sets) == {"generated"}


def crop_generated(path: Path) -> Image.Image | None:
    """Read a sample grid of a training without its columns of real or reconstructed images.

    Reconstructions of an autoencoder, or after a cycle, are nearly copies of real images.

    Returns:
        The grid; None if it shows no generated images, or has no record of which they are.
    """
    record = read_record(path) or {}
    sets, tile, columns = (record.get(key) for key in ("sets", "tile", "columns"))
    if record.get("output") != "training grid" or not (sets and tile and columns):
        return None
    with Image.open(path) as image:
        grid = image.convert("RGB")
    are_generated = [sets[i % len(sets)] == "generated" for i in range(columns)]
    if all(are_generated):
        return grid
    if not any(are_generated):
        return None
    # the padding of make_grid is left of and above each tile, and once more at the end
    width = tile[1] + GRID_PADDING
    captions = grid.width - columns * width - GRID_PADDING
    cropped = Image.new("RGB", (captions + sum(are_generated) * width + GRID_PADDING, grid.height))
    cropped.paste(grid.crop((0, 0, captions + GRID_PADDING, grid.height)), (0, 0))
    left = captions + GRID_PADDING
    for i, is_generated in enumerate(are_generated):
        if is_generated:
            start = captions + GRID_PADDING + i * width
            cropped.paste(grid.crop((start, 0, start + width, grid.height)), (left, 0))
            left += width
    return cropped
