"""Two sets without pairs: the generated horses, and folders of real images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import data as pictures

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data import horse2zebra, horses, pairs
from gan_lab.data.array_dataset import ArrayDataset
from tests.helpers.pictures import flat


@pytest.fixture(scope="module")
def painter() -> horses.HorsePainter:
    return horses.HorsePainter(64)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of 20 animals each, and 8 held out."""
    monkeypatch.setattr(horses, "COUNT", 20)
    monkeypatch.setattr(horses, "HELD_OUT", 8)


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_lab.data.download.is_reachable", lambda url: False)


def cfg(root: Path, **keys: object) -> DataConfig:
    return DataConfig(**{"name": "horse2zebra", "root": str(root), "size": 32, **keys})  # type: ignore[arg-type]


def read_all(images: object) -> np.ndarray:
    return np.asarray(images[np.arange(len(images))])  # type: ignore[index,arg-type]


VIEW = horses.Scene(0.95, 0.5, 0.5, False, "grass", (0.3, 0.6), 0.3, 1.0)


def differing(painter: horses.HorsePainter, view: horses.Scene) -> np.ndarray:
    """Where the two coats differ, [H, W]."""
    return (painter.paint(view, striped=True) != painter.paint(view, striped=False)).any(0)


def within(painter: horses.HorsePainter, view: horses.Scene) -> np.ndarray:
    """The pixels of which the ground is no part, [H, W]."""
    first, second = (
        painter.paint(view._replace(ground=ground), striped=False) for ground in ("grass", "gravel")
    )
    mask = (first == second).all(0) & differing(painter, view)
    assert mask.sum() > 500
    return mask


def test_the_coats_differ_inside_the_animal_and_nowhere_else() -> None:
    inside = differing(horses.HorsePainter(256), VIEW)
    shape = ~pictures.horse()
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    length = 0.95 * 256
    height = length * (rows[-1] - rows[0] + 1) / (columns[-1] - columns[0] + 1)
    seen_rows, seen_columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert seen_columns[-1] - seen_columns[0] + 1 == pytest.approx(length, abs=2.5)
    assert seen_rows[-1] - seen_rows[0] + 1 == pytest.approx(height, abs=2.5)
    share = shape.sum() / (columns[-1] - columns[0] + 1) ** 2 * 0.95**2
    assert inside.mean() == pytest.approx(share, rel=0.1)


def test_the_animal_fills_a_good_part_of_every_picture(painter: horses.HorsePainter) -> None:
    shares = [differing(painter, view).mean() for view in horses.sample_scenes("held out", 40)]
    assert min(shares) > 0.25
    assert max(shares) < 0.45


def test_the_stripes_turn_with_the_animal(painter: horses.HorsePainter) -> None:
    view = VIEW._replace(across=0.2)
    turned = painter.paint(view._replace(mirrored=True), striped=True)
    painted = painter.paint(view, striped=True)
    assert abs(turned[:, :, ::-1].astype(int) - painted)[:, within(painter, view)].max() <= 1
    assert not np.array_equal(turned[:, :, ::-1], painted)  # the ground does not turn


def test_the_stripes_move_with_the_animal(painter: horses.HorsePainter) -> None:
    here = VIEW._replace(length=0.9, across=0.0)
    there = here._replace(across=5 / (64 - 0.9 * 64))  # five pixels to the right
    moved = np.roll(painter.paint(there, striped=True), -5, axis=2)
    painted = painter.paint(here, striped=True)
    assert abs(moved.astype(int) - painted)[:, within(painter, here)].max() <= 1
    assert not np.array_equal(moved, painted)


def test_a_larger_picture_shows_the_same_animal(painter: horses.HorsePainter) -> None:
    large = horses.HorsePainter(128).paint(VIEW, striped=True)
    halved = large.reshape(3, 64, 2, 64, 2).mean((2, 4))
    error = abs(halved - painter.paint(VIEW, striped=True))[:, within(painter, VIEW)]
    assert error.mean() < 8  # both are averages of the same stripes


def test_a_black_and_a_white_stripe_are_five_pixels_or_more_at_64(
    painter: horses.HorsePainter,
) -> None:
    gray = painter.paint(VIEW, striped=True).mean(0)
    inside = differing(painter, VIEW)
    row = int(np.flatnonzero(inside.any(1)).mean())  # through the flank
    flank = gray[row, inside[row]][4:40]
    borders = np.count_nonzero(np.diff(flank > 128))
    assert 2 * len(flank) / borders > 5
    assert flank.max() - flank.min() > 170
    assert borders >= 6


def test_a_plain_coat_is_brown_and_without_stripes(painter: horses.HorsePainter) -> None:
    picture = painter.paint(VIEW, striped=False)
    row = int(np.flatnonzero(differing(painter, VIEW).any(1)).mean()) - 6
    red, green, blue = picture[:, row, 20:44].astype(int)
    assert (red > green + 20).all()
    assert (green > blue).all()
    assert np.ptp(red) < 25


def test_both_grounds_both_sides_and_the_light_are_alike_in_the_two_domains() -> None:
    plain, striped = horses.sample_scenes("A", 1000), horses.sample_scenes("B", 1000)
    for of in (plain, striped):
        assert 0.45 < np.mean([view.ground == "grass" for view in of]) < 0.55
        assert 0.45 < np.mean([view.mirrored for view in of]) < 0.55
    assert np.mean([v.light for v in plain]) == pytest.approx(
        np.mean([v.light for v in striped]), abs=0.02
    )
    assert not set(plain) & set(striped)
    assert horses.sample_scenes("A", 10) == plain[:10]


def test_grass_is_green_and_gravel_is_not(painter: horses.HorsePainter) -> None:
    away = ~differing(painter, VIEW)
    grass, gravel = (
        painter.paint(VIEW._replace(ground=g), striped=False)[:, away].mean(1)
        for g in ("grass", "gravel")
    )
    assert grass[1] > 1.3 * max(grass[0], grass[2])
    assert gravel[0] > gravel[1] > gravel[2]
    assert gravel[0] < 1.35 * gravel[2]


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_the_sample_is_unpaired_in_training_and_known_when_held_out(
    tmp_path: Path, few: None, direction: str
) -> None:
    made = horse2zebra.decode(cfg(tmp_path, source="sample", direction=direction))
    assert (made.spec.pairs, made.spec.content, made.spec.source_channels) == (
        "held out",
        "horses",
        3,
    )
    assert made.spec.shape == (3, 32, 32)
    train_differ = (read_all(made.train_images) != read_all(made.train_sources)).any(1).mean((1, 2))
    test_differ = (read_all(made.test_images) != read_all(made.test_sources)).any(1).mean((1, 2))
    assert len(train_differ) == 20
    assert train_differ.min() > 0.9  # other animals on other grounds
    assert len(test_differ) == 8
    assert test_differ.max() < 0.5
    painter = horses.HorsePainter(32)
    held = horses.sample_scenes("held out", 8)
    striped, plain = painter.paint_all(held, striped=True), painter.paint_all(held, striped=False)
    expected = (striped, plain) if direction == "AtoB" else (plain, striped)
    assert np.array_equal(read_all(made.test_images), expected[0])
    assert np.array_equal(read_all(made.test_sources), expected[1])
    assert made.about.endswith("(8 pairs held out): data.source=sample")


def test_the_directions_and_the_paired_sample_have_other_fingerprints(
    tmp_path: Path, few: None
) -> None:
    made = [
        horse2zebra.decode(cfg(tmp_path, source="sample", direction=way))
        for way in ("AtoB", "BtoA")
    ]
    made.append(pairs.decode(cfg(tmp_path, source="sample")))
    assert len({one.fingerprint for one in made}) == 3
    assert np.array_equal(
        read_all(made[0].test_images), read_all(made[2].test_images)
    )  # scored on the same animals


def two_sets(root: Path, test: bool) -> Callable[[ArrayDataset], dict[str, list[int]]]:
    """Flat pictures: trainA 0.., trainB 100.., testA 50.., testB 150..; returns their reader."""
    counts = {"trainA": (0, 12), "trainB": (100, 15)} | (
        {"testA": (50, 3), "testB": (150, 4)} if test else {}
    )
    for name, (first, count) in counts.items():
        for i in range(count):
            flat(root / name / f"{i:02}.png", (first + i,) * 3)
    return lambda made: {
        part: read_all(getattr(made, part))[:, 0, 0, 0].tolist()
        for part in ("train_sources", "train_images", "test_sources", "test_images")
    }


@pytest.mark.parametrize("inside", ["", "horse2zebra"])
def test_the_four_folders_are_the_four_parts(
    tmp_path: Path, inside: str, no_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))
    values = two_sets(tmp_path / "root" / inside, test=True)
    made = horse2zebra.decode(cfg(tmp_path / "root", size=8))
    assert values(made) == {
        "train_sources": [*range(12)],
        "train_images": [*range(100, 115)],
        "test_sources": [*range(50, 53)],
        "test_images": [*range(150, 154)],
    }
    assert (made.spec.pairs, made.spec.content, made.source) == ("none", "photos", "full")
    assert made.about == (
        "12 images of A and 15 of B (3 and 4 held out), unpaired, from "
        f"{tmp_path / 'root' / inside}"
        "; A: (15 center-cropped); B: (19 center-cropped); all 34 files are used"
    )
    assert not [
        path for path in (tmp_path / "root").rglob("*") if path.suffix != ".png" and path.is_file()
    ]
    back = horse2zebra.decode(cfg(tmp_path / "root", size=8, direction="BtoA"))
    assert values(back)["train_sources"] == [*range(100, 115)]
    assert back.fingerprint != made.fingerprint
    lab = datasets.load(cfg(tmp_path / "root", size=8), 0)
    assert len(lab.reference(10)[0].images) == 2  # half of as many as there are of both


def test_without_test_folders_a_tenth_of_each_is_held_out(
    tmp_path: Path, no_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))
    values = two_sets(tmp_path / "root", test=False)(
        horse2zebra.decode(cfg(tmp_path / "root", size=8))
    )
    assert [len(part) for part in values.values()] == [8, 11, 4, 4]
    assert sorted(values["train_sources"] + values["test_sources"]) == [*range(12)]
    assert sorted(values["train_images"] + values["test_images"]) == [*range(100, 115)]


def test_an_empty_or_a_missing_second_set_is_named(tmp_path: Path) -> None:
    flat(tmp_path / "trainA" / "a.png", 0)
    with pytest.raises(
        ValueError,
        match=f"{tmp_path} contains trainA, but not trainB. "
        "Use one of these layouts: trainA and trainB, ",
    ):
        horse2zebra.decode(cfg(tmp_path))
    (tmp_path / "trainB").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path}/trainB: no images"):
        horse2zebra.decode(cfg(tmp_path))


def test_without_network_full_says_what_to_do_and_auto_takes_the_sample(
    tmp_path: Path, few: None, no_host: None
) -> None:
    problem = (
        rf"no trainA and trainB in {tmp_path}, and the download of horse2zebra failed "
        r"\(efrosgans[^;]*; people.*\)"
    )
    with pytest.raises(
        ValueError,
        match=f"^data.source=full: {problem}. Unpack https://.*horse2zebra.zip into {tmp_path}",
    ):
        horse2zebra.decode(cfg(tmp_path, source="full"))
    made = horse2zebra.decode(cfg(tmp_path))
    assert made.source == "sample"
    assert "cannot be reached" in made.about


def test_an_archive_that_was_put_there_is_unpacked(
    tmp_path: Path, no_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(horse2zebra, "SHA256", "")
    two_sets(tmp_path / "made" / "horse2zebra", test=True)
    (tmp_path / "root").mkdir()
    with zipfile.ZipFile(tmp_path / "root" / "horse2zebra.zip", "w") as packed:
        for path in sorted((tmp_path / "made").rglob("*.png")):
            packed.write(path, path.relative_to(tmp_path / "made"))
    assert len(horse2zebra.decode(cfg(tmp_path / "root", size=8)).train_images) == 15
