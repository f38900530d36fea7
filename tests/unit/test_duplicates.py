"""Duplicates: exact, in another size or compressed again, and images that are only similar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gan_lab import cli
from gan_lab.config.schema import DataConfig
from gan_lab.data import duplicates, horses
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.images import ImageSpec


def photos(n: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Soft colors, uint8 [n, channels, 32, 32]."""
    coarse = np.random.default_rng(seed).integers(256, size=(n, 5, 5, channels), dtype=np.uint8)
    large = [
        Image.fromarray(one.squeeze()).resize((32, 32), Image.Resampling.BICUBIC) for one in coarse
    ]
    return np.stack([np.asarray(one).reshape(32, 32, channels).transpose(2, 0, 1) for one in large])


def data_of(train: np.ndarray, held: np.ndarray) -> GANDataModule:
    spec = ImageSpec(train.shape[1], 32, 32)
    made = ArrayDataset(spec, train, None, held, None, "full", "", "x")
    return GANDataModule(made, DataConfig(name="folder", size=32), seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_and_near_ones_are_counted_within_and_across_the_split(channels: int) -> None:
    train, held = photos(700, channels), photos(20, channels, seed=1)
    train[650], train[651] = train[3], train[3]  # beyond the first block
    train[60] = np.clip(train[5].astype(int) + 1, 0, 255)  # compressed again
    held[4], held[5] = train[7], np.clip(train[8].astype(int) - 1, 0, 255)
    found = duplicates.count_duplicates(data_of(train, held))
    assert found == duplicates.Duplicates(
        checked=720, exact=3, exact_across=1, near=2, near_across=1
    )


def test_plain_images_of_different_gray_are_not_alike_though_their_hashes_are() -> None:
    plain = np.stack([np.full((3, 32, 32), level, np.uint8) for level in (0, 60, 120, 180)])
    found = duplicates.count_duplicates(data_of(plain[:3], plain[3:]))
    assert (found.exact, found.near) == (0, 0)


def test_a_look_at_the_data_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    for i, one in enumerate(photos(10)):
        Image.fromarray(one.transpose(1, 2, 0)).save(tmp_path / "mine" / f"{i}.png")
    Image.open(tmp_path / "mine" / "0.png").save(tmp_path / "mine" / "again.bmp")
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))
    words = [
        "data.name=folder",
        f"data.root={tmp_path / 'mine'}",
        "data.size=32",
        f"run.root={tmp_path / 'runs'}",
    ]
    done = CliRunner().invoke(cli.app, ["inspect-data", "dcgan", *words])
    assert done.exit_code == 0
    rows = [line.split("│")[1:3] for line in done.output.splitlines() if line.startswith("│")]
    assert {name.strip(): count.strip() for name, count in rows}.items() >= {
        ("exact", "1"),
        ("near", "0"),
    }
    # one table of files: what was used, and what the folder contains
    assert [name.strip() for name, _ in rows][-6:] == [
        "seen",
        "used",
        "extensions",
        "modes",
        "widths",
        "heights",
    ]
    assert done.output.count("┃ files") == 1


def test_inspect_data_of_unpaired_sets_counts_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs of an unpaired set are a second set of images, generated ones included."""
    monkeypatch.setattr(horses, "COUNT", 6)
    monkeypatch.setattr(horses, "HELD_OUT", 4)
    words = ["data.name=horse2zebra", "data.source=sample", "data.size=16", f"data.root={tmp_path}",
             f"run.root={tmp_path / 'runs'}"]  # fmt: skip
    done = CliRunner().invoke(cli.app, ["inspect-data", "pix2pix", *words])
    assert done.exit_code == 0, done.exception
    rows = {line.split("│")[1].strip(): line for line in done.output.splitlines() if "│" in line}
    assert rows["inputs"].split("│")[2:] == rows["images"].split("│")[2:]
