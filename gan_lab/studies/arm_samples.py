"""Samples of the arms of a study, for its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gan_lab.images import save_grid
from gan_lab.inference.sampling import TrainedGenerator, load_generator
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

COLUMNS = 10


def write_samples(measured: Mapping[str, Mapping[str, Any]], runs: Path, path: Path) -> list[str]:
    """Write a picture with one row of samples per arm, and a JSON file that names the rows.

    An arm without a training, with the training of an earlier arm, of points in the plane or of
    image-to-image models has no row.

    Args:
        measured: The measurement of one seed, by arm.
        runs: The folder of the trainings.
        path: The PNG file; the JSON file is next to it. Without rows, neither is written.

    Returns:
        The arms with a row.
    """
    generators: dict[str, TrainedGenerator] = {}
    seen = set()
    for arm, values in measured.items():
        trained = tuple(values.get("runs", []))
        if trained and trained not in seen:
            seen.add(trained)
            if generator := _load_image_generator(runs / trained[-1]):
                generators[arm] = generator
    shapes = {tuple(each.network.recipe["arguments"]["shape"]) for each in generators.values()}
    if len(shapes) != 1:
        # of an earlier measurement
        for earlier in (path, path.with_suffix(".json")):
            earlier.unlink(missing_ok=True)
        return []
    images = torch.cat([generator(COLUMNS) for generator in generators.values()])
    save_grid(images, COLUMNS, path, record={"output": "samples of a study"})
    write_text(path.with_suffix(".json"), json.dumps([*generators]) + "\n")
    return [*generators]


def _load_image_generator(run: Path) -> TrainedGenerator | None:
    """Load the generator of a run; None for points, image-to-image models and deleted runs."""
    try:
        generator = load_generator(run)
    except UserError:
        return None
    _, height, width = generator.network.recipe["arguments"]["shape"]
    return generator if min(height, width) > 1 else None
