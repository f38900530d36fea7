"""Tests of the samples of the arms on the pages of studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan_lab import load_generator, networks
from gan_lab.images import to_uint8
from gan_lab.studies.arm_samples import COLUMNS, write_samples


def write_checkpoint(path: Path, kind: str, shape: tuple[int, int, int], seed: int) -> None:
    torch.manual_seed(seed)
    generator = networks.generator(kind, z_dim=8, shape=shape, width=16, norm="none")
    path.parent.mkdir(parents=True)
    state = {
        "iteration": 1,
        "ema": {"generator": generator.state_dict()},
        "recipes": {"generator": generator.recipe},
    }
    torch.save(state, path)


def test_samples_have_a_row_for_each_arm_with_own_images(tmp_path: Path) -> None:
    """Arms without a run, with an earlier arm's run, or of points have none."""
    for seed, name in enumerate(("a", "b")):
        write_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt", "dcgan", (1, 28, 28), seed)
    write_checkpoint(tmp_path / "points" / "checkpoints" / "best.ckpt", "mlp", (2, 1, 1), 2)
    measured = {
        "first": {"runs": ["a"]},
        "none": {"runs": []},
        "again": {"runs": ["a"]},
        "points": {"runs": ["points"]},
        "deleted": {"runs": ["c"]},
        "second": {"runs": ["b"]},
    }
    picture = tmp_path / "full.samples.png"
    assert write_samples(measured, tmp_path, picture) == ["first", "second"]
    assert json.loads((tmp_path / "full.samples.json").read_text()) == ["first", "second"]
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    for row, name in enumerate(("a", "b")):
        expected = to_uint8(load_generator(tmp_path / name)(COLUMNS))[:, 0].numpy()
        height, width = pixels.shape[0] // 2, pixels.shape[1] // COLUMNS
        for column in range(COLUMNS):
            tile = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert any(
                np.array_equal(tile[y : y + 28, x : x + 28], expected[column])
                for y in range(tile.shape[0] - 27)
                for x in range(tile.shape[1] - 27)
            )


def test_arms_without_images_write_no_picture(tmp_path: Path) -> None:
    assert write_samples({"real": {"runs": []}}, tmp_path, tmp_path / "full.samples.png") == []
    assert not [*tmp_path.iterdir()]


def test_samples_of_an_earlier_measurement_are_removed(tmp_path: Path) -> None:
    picture = tmp_path / "full.samples.png"
    for path in (picture, tmp_path / "full.samples.json"):
        path.touch()
    assert write_samples({"deleted": {"runs": ["c"]}}, tmp_path, picture) == []
    assert not [*tmp_path.iterdir()]
