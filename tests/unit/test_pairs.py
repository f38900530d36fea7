"""Pairs: side by side, two folders of equal names, and the generated horses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_lab.config.schema import DataConfig
from gan_lab.data import horses, pairs
from gan_lab.data.array_dataset import ArrayDataset
from tests.helpers.pictures import flat, noise


@pytest.fixture(autouse=True)
def _cache_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def cfg(root: Path, **keys: object) -> DataConfig:
    return DataConfig(name="pairs", root=str(root), size=8, **keys)  # type: ignore[arg-type]


def beside(path: Path, a: int, b: int, width: int = 32, height: int = 16) -> None:
    """A pair in one file: the left half of level a, the right one of level b."""
    picture = Image.new("RGB", (width, height), (a,) * 3)
    picture.paste((b,) * 3, (width // 2, 0, width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def values(made: ArrayDataset, part: str) -> list[tuple[int, int]]:
    """(source, image) of each row; each must be of one level, or A and B run into each other."""
    read = []
    for pixels in (getattr(made, f"{part}_sources"), getattr(made, f"{part}_images")):
        images = pixels[np.arange(len(pixels))]
        assert images.shape[1:] == (3, 8, 8)
        assert (np.ptp(images.reshape(len(images), -1), axis=1) == 0).all()
        read.append(images[:, 0, 0, 0].tolist())
    return list(zip(*read, strict=True))


@pytest.mark.parametrize("held", ["test", "val", ""])
@pytest.mark.parametrize("lazy", [False, True])
def test_left_is_a_and_right_is_b(tmp_path: Path, held: str, lazy: bool) -> None:
    for i in range(20):
        beside(tmp_path / ("train" if held else "") / f"{i:02}.png", i, 100 + i)
    if held:
        beside(tmp_path / held / "a.png", 50, 150)
        beside(tmp_path / "val" / "a.png", 50, 150)
    keys = {"cache_gb": 0.0} if lazy else {}
    made = pairs.decode(cfg(tmp_path, **keys))
    assert (made.spec.pairs, made.spec.content, made.spec.source_channels) == ("all", "photos", 3)
    if held:
        assert values(made, "train") == [(i, 100 + i) for i in range(20)]
        assert values(made, "test") == [(50, 150)]
    else:
        assert sorted(values(made, "train") + values(made, "test")) == [
            (i, 100 + i) for i in range(20)
        ]
        assert len(made.test_images) == 4
    back = pairs.decode(cfg(tmp_path, direction="BtoA", **keys))
    assert values(back, "train") == [(b, a) for a, b in values(made, "train")]
    assert back.fingerprint != made.fingerprint


@pytest.mark.parametrize(
    "folders",
    [
        ("A", "B"),
        ("trainA", "trainB", "testA", "testB"),
        ("A/train", "B/train", "A/test", "B/test"),
    ],
)
def test_two_folders_correspond_by_name_whatever_the_ending(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    for i in range(12):
        flat(tmp_path / folders[0] / "deep" / f"{i}.png", (i,) * 3)
        flat(tmp_path / folders[1] / "deep" / f"{i}.png", (100 + i,) * 3).rename(
            tmp_path / folders[1] / "deep" / f"{i}.bmp"
        )
    for name, level in zip(folders[2:], (50, 150), strict=False):
        flat(tmp_path / name / "x.png", (level,) * 3)
    made = pairs.decode(cfg(tmp_path))
    test = [(50, 150)] if folders[2:] else values(made, "test")
    assert values(made, "test") == test
    assert sorted(values(made, "train") + ([] if folders[2:] else test)) == [
        (i, 100 + i) for i in range(12)
    ]


def test_files_without_a_counterpart_are_named(tmp_path: Path) -> None:
    for name in ("A/1.png", "A/2.png", "B/1.png", "B/3.png"):
        flat(tmp_path / name, 0)
    with pytest.raises(
        ValueError, match=r"the files of A and B do not match: A lacks 3; B lacks 2"
    ):
        pairs.decode(cfg(tmp_path))


def test_a_picture_that_is_no_pair_is_refused_with_its_size(tmp_path: Path) -> None:
    for i in range(5):
        beside(tmp_path / f"{i}.png", i, 100 + i)
    noise(20, 20).save(tmp_path / "single.png")
    with pytest.warns(
        UserWarning, match=r"single.png: 20 x 20 pixels cannot be two images side by side"
    ):
        made = pairs.decode(cfg(tmp_path, max_unreadable=0.2))
    assert len(made.train_images) + len(made.test_images) == 5


def test_halves_that_are_not_square_give_their_middles(tmp_path: Path) -> None:
    beside(tmp_path / "wide.png", 10, 20, width=61, height=20)
    for width, height in ((30, 20), (33, 20)):
        beside(tmp_path / f"{width}.png", 10, 20, width, height)
    made = pairs.decode(cfg(tmp_path))
    images = np.concatenate([made.train_images[np.arange(2)], made.test_images[np.arange(1)]])
    assert (images[..., 2:] == 20).all()


def test_no_pairs_are_an_error_with_the_layouts_or_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horses, "COUNT", 6)
    monkeypatch.setattr(horses, "HELD_OUT", 3)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        ValueError,
        match=rf"data.source=full: no pairs in {tmp_path} \(found: 1 .txt\). "
        r"Expected side-by-side images",
    ):
        pairs.decode(cfg(tmp_path, source="full"))
    with pytest.raises(
        ValueError, match=rf"no pairs in {tmp_path}/none \(the folder does not exist\)"
    ):
        pairs.decode(cfg(tmp_path / "none", source="full"))
    made = pairs.decode(cfg(tmp_path))
    assert (made.source, made.spec.pairs, made.spec.content) == ("sample", "all", "horses")
    assert made.about.endswith(f"(3 pairs held out): no pairs in {tmp_path}")
    for images, sources in (
        (made.train_images, made.train_sources),
        (made.test_images, made.test_sources),
    ):
        assert (images[np.arange(3)] != sources[np.arange(3)]).any(1).mean((1, 2)).max() < 0.8  # type: ignore[index,union-attr]
    striped = horses.HorsePainter(8).paint_all(horses.sample_scenes("A", 6), striped=True)
    assert np.array_equal(made.train_images[np.arange(6)], striped)
