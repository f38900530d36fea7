"""Samples of the arms of a study, for its page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from gan_lab.images import draw_grid, scatter
from gan_lab.inference.sampling import TrainedGenerator, load_generator
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import atomic_path, write_text
from gan_lab.utils.provenance import read_record, save_png

NUM_COLUMNS = 10
# of a scatter plot, and the side of the plot in pixels
POINTS, PLOT_SIDE = 1000, 128
# of the rows of a grid that an image-to-image training has written
GRID_ROWS = 2
# pixels: between the pictures of two arms, and the width that small pictures fill side by side
GAP, MIN_WIDTH = 4, 420


def write_samples(measured: Mapping[str, Mapping[str, Any]], runs: Path, path: Path) -> list[str]:
    """Write a picture with the samples of each arm, and a JSON file that names the arms.

    Samples of a generator of images are a row, points in the plane are a scatter plot, and an
    image-to-image model has the first rows of the last grid of its training. An arm without a
    training, or with the training of an earlier arm, is left out.

    Args:
        measured: The measurement of one seed, by arm.
        runs: The folder of the trainings.
        path: The PNG file; the JSON file is next to it. Without samples, neither is written.

    Returns:
        The arms with samples, from left to right and from top to bottom.
    """
    pictures: dict[str, Image.Image] = {}
    seen = set()
    for arm, values in measured.items():
        trained = tuple(values.get("runs", []))
        if trained and trained not in seen:
            seen.add(trained)
            if picture := _draw_samples(runs / trained[-1]):
                pictures[arm] = picture
    if not pictures:
        # of an earlier measurement
        for earlier in (path, path.with_suffix(".json")):
            earlier.unlink(missing_ok=True)
        return []
    with atomic_path(path) as unfinished:
        save_png(_arrange([*pictures.values()]), unfinished, {"output": "samples of a study"})
    write_text(path.with_suffix(".json"), json.dumps([*pictures]) + "\n")
    return [*pictures]


def _draw_samples(run: Path) -> Image.Image | None:
    """Draw samples of a run; None if it was deleted."""
    try:
        return _draw_latent_samples(load_generator(run))
    except UserError:
        grids = Run(run).grids if run.is_dir() else []
    if not grids:
        return None
    path = grids[-1][1]
    with Image.open(path) as last:
        grid = last.convert("RGB")
    record = read_record(path) or {}
    # fewer than eight where the split has fewer images
    tiles = record["count"] * len(record["sets"]) if "count" in record else 0
    rows = math.ceil(tiles / record["columns"]) if tiles else 8
    return grid.crop((0, 0, grid.width, round(grid.height * min(1, GRID_ROWS / rows))))


def _draw_latent_samples(generator: TrainedGenerator) -> Image.Image:
    if tuple(generator.network.recipe["arguments"]["shape"]) == (2, 1, 1):
        return draw_grid(2 * scatter(generator(POINTS), PLOT_SIDE)[None] - 1, 1)
    return draw_grid(generator(NUM_COLUMNS), NUM_COLUMNS)


def _arrange(pictures: list[Image.Image]) -> Image.Image:
    """Place pictures from left to right, and below each other where a row is full."""
    width = max(MIN_WIDTH, *(picture.width for picture in pictures))
    places = []
    left, top, row_height = 0, 0, 0
    for picture in pictures:
        if left and left + picture.width > width:
            left, top, row_height = 0, top + row_height + GAP, 0
        places.append((left, top))
        left += picture.width + GAP
        row_height = max(row_height, picture.height)
    right = max(x + picture.width for (x, _), picture in zip(places, pictures, strict=True))
    arranged = Image.new("RGB", (right, top + row_height), "white")
    for place, picture in zip(places, pictures, strict=True):
        arranged.paste(picture, place)
    return arranged
