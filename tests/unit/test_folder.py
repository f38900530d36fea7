"""A user's image folder: classes, held-out images, a training with every mode and fault."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_lab import data as datasets
from gan_lab import load_generator
from gan_lab.config import loading
from gan_lab.config.schema import DataConfig
from gan_lab.data import folder
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from gan_lab.utils.errors import UserError
from tests.helpers.pictures import every_fault, every_mode, flat
from tests.helpers.processes import train


@pytest.fixture(autouse=True)
def _cache_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def cfg(root: Path, **keys: object) -> DataConfig:
    return DataConfig(name="folder", root=str(root), size=8, **keys)  # type: ignore[arg-type]


def values(images: object) -> list[int]:
    return images[np.arange(len(images))][:, 0, 0, 0].tolist()  # type: ignore[index,arg-type]


def test_first_level_folders_are_the_classes_and_one_may_hold_a_single_image(
    tmp_path: Path,
) -> None:
    for i in range(20):
        flat(tmp_path / "cats" / ("kittens" if i % 2 else "") / f"{i}.png", (i,) * 3)
        flat(tmp_path / "dogs" / f"{i}.png", (100 + i,) * 3)
    flat(tmp_path / "ant" / "only.png", (200,) * 3)
    made = folder.decode(cfg(tmp_path))
    assert made.spec.classes == 3
    assert made.about == (
        f"37 images of {tmp_path}, 4 held out, 3 classes (ant, cats, dogs; "
        "data.labels=false ignores them) (41 center-cropped); all 41 files are used"
    )
    right = {
        value: 0 if value == 200 else 1 if value < 100 else 2
        for value in [*range(20), *range(100, 120), 200]
    }
    for images, labels in (
        (made.train_images, made.train_labels),
        (made.test_images, made.test_labels),
    ):
        assert labels.dtype == np.int64
        assert [right[value] for value in values(images)] == labels.tolist()
    assert sorted(values(made.train_images) + values(made.test_images)) == sorted(right)
    assert np.bincount(made.test_labels).tolist() == [0, 2, 2]


def test_labels_that_are_not_wanted_change_the_fingerprint_and_nothing_is_said_of_classes(
    tmp_path: Path,
) -> None:
    for i in range(6):
        flat(tmp_path / f"class {i % 2}" / f"{i}.png", (i,) * 3)
    with_labels, without = folder.decode(cfg(tmp_path)), folder.decode(cfg(tmp_path, labels=False))
    assert (with_labels.spec.classes, without.spec.classes) == (2, 0)
    assert without.train_labels is None
    assert "class" not in without.about.replace(str(tmp_path), "")
    assert with_labels.fingerprint != without.fingerprint


@pytest.mark.filterwarnings("ignore:.* training without labels")
@pytest.mark.parametrize("lonely", ["only class/extra.png", "next to the classes.png"])
def test_one_folder_or_images_beside_the_folders_are_no_classes(
    tmp_path: Path, lonely: str
) -> None:
    for i in range(4):
        flat(tmp_path / "only class" / f"{i}.png", (i,) * 3)
    flat(tmp_path / lonely, (9,) * 3)
    if "next to" in lonely:
        flat(tmp_path / "second class" / "a.png", (10,) * 3)
    assert folder.decode(cfg(tmp_path)).spec.classes == 0


def test_no_image_is_an_error_that_lists_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.txt", "b.TXT", "deep/c.mp4", "README"):
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError,
        match=rf"data.root={tmp_path}: no images \(found: 2 .txt, 1 .mp4, 1 without extension\)",
    ):
        folder.decode(cfg(tmp_path))
    with pytest.raises(ValueError, match=f"data.root={tmp_path}/none does not exist"):
        folder.decode(cfg(tmp_path / "none"))
    (tmp_path / "zero.png").touch()
    with pytest.raises(
        ValueError, match=r"1 of 1 images are unreadable: .*zero.png: the file is empty"
    ):
        folder.decode(cfg(tmp_path, max_unreadable=1.0))
    (tmp_path / "zero.png").unlink()
    flat(tmp_path / "one.png", 0)
    with pytest.raises(ValueError, match="Too few images: 1"):
        folder.decode(cfg(tmp_path))


def test_a_folder_has_no_sample(tmp_path: Path) -> None:
    flat(tmp_path / "one.png", 0)
    with pytest.raises(
        ValueError, match=r"data.source=sample: data.name=folder has no sample. Set data.root"
    ):
        folder.decode(cfg(tmp_path, source="sample"))


def test_nothing_is_written_into_the_photos_and_the_cache_is_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        flat(tmp_path / "photos" / f"{i}.png", (i,) * 3)
    monkeypatch.chdir(tmp_path)
    folder.decode(cfg(tmp_path / "photos"))
    assert not (tmp_path / "data").exists()
    monkeypatch.delenv("GAN_LAB_CACHE")
    folder.decode(cfg(tmp_path / "photos"))
    assert (tmp_path / "data" / "cache").is_dir()
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]


@pytest.mark.parametrize("lazy", [False, True])
def test_every_mode_and_fault_is_served_or_named(tmp_path: Path, lazy: bool) -> None:
    readable, faults = every_mode(tmp_path / "all"), every_fault(tmp_path / "all" / "bad")
    with pytest.warns(
        UserWarning, match=f"{len(faults)} of {readable + len(faults)} images are unreadable"
    ) as said:
        lab = datasets.load(
            cfg(tmp_path / "all", max_unreadable=0.5, cache_gb=0.0 if lazy else 1.0), 0
        )
    assert all(name in str(said[0].message) for name in ("bomb.png", "empty.png", "large.png"))
    assert len(lab.train) + len(lab.validation) + len(lab.test) == readable
    batch, _ = lab.grid_batch(held_out=False, by_class=False)
    assert batch.images.shape == (readable - 4, 3, 8, 8)
    assert batch.images.min() >= -1
    assert batch.images.flatten(1).std(1).min() > 0.05  # each shows something


def test_a_folder_with_every_mode_and_fault_trains_two_steps(tmp_path: Path) -> None:
    readable = every_mode(tmp_path / "all")
    faults = every_fault(tmp_path / "all" / "bad")
    words = ["data.name=folder", f"data.root={tmp_path / 'all'}", "data.max_unreadable=0.5",
             "data.size=16", "data.cache_gb=0", "data.workers=1", "data.batch_size=4",
             "run.images=8", "model.width=4", f"run.root={tmp_path / 'runs'}",
             "metrics.allow_small_n=true", "metrics.inception_weights=off",
             "log.wandb=off", "log.progress_bar=false"]  # fmt: skip
    assert train("dcgan", words, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert f"{len(faults)} of {readable + len(faults)} images are unreadable" in said
    assert list((tmp_path / "runs").rglob("checkpoints/iteration-*2.ckpt"))


def gray_files(root: Path, n: int) -> None:
    for i in range(n):
        Image.fromarray(np.full((20, 20), 10 * i, np.uint8)).save(root / f"{i}.png")


def deep_files(root: Path, n: int) -> None:
    for i in range(n):
        ramp = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16) // (i + 1)
        Image.fromarray(ramp).save(root / f"{i}.{'tiff' if i % 2 else 'png'}")


def wide_photos(root: Path, n: int) -> None:
    for i in range(n):
        photo(root / f"{i}.jpg", i)


def photo(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(256, size=(4, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((96, 64), Image.Resampling.BILINEAR).save(path)


@pytest.mark.parametrize(
    ("make", "size", "shape", "family"),
    [
        *((gray_files, "16", (1, 16, 16), family) for family in ("dcgan", "gan", "sngan", "r3gan")),
        *(
            (wide_photos, "16x24", (3, 16, 24), family)
            for family in ("dcgan", "gan", "sngan", "r3gan")
        ),
        # once decoded, deep images are gray ones
        (deep_files, "16", (1, 16, 16), "dcgan"),
    ],
)
def test_gray_deep_and_wide_images_train_two_steps_and_samples_are_like_them(
    make: Callable[[Path, int], None],
    size: str,
    shape: tuple[int, ...],
    family: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    make(tmp_path / "mine", 12)
    words = ["data.name=folder", f"data.root={tmp_path / 'mine'}", f"data.size={size}",
             "data.batch_size=4", "run.images=8", "model.width=4", f"run.root={tmp_path / 'runs'}",
             "metrics.allow_small_n=true", "metrics.inception_weights=off",
             "metrics.num_fakes=8", "log.wandb=off", "log.progress_bar=false",
             "run.id=x"]  # fmt: skip
    loaded = loading.load(family, words)
    run = RunFolder.of(loaded)
    built = builder.build(*builder.load_data(loaded.config), run)
    assert built.data.spec.shape == shape
    run.prepare(built.config, ["train", family], built.data.decoded.fingerprint)
    built.trainer.fit(built.family, datamodule=built.data)
    assert load_generator(run.path)(n=3).shape == (3, *shape)
    grids = sorted((run.path / "samples").glob("*.png"))
    with Image.open(grids[-1]) as grid:
        assert grid.size == (8 * (shape[2] + 2) + 2, 8 * (shape[1] + 2) + 2)


def test_deep_levels_are_scaled_before_they_are_rounded(tmp_path: Path) -> None:
    deep_files(tmp_path, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = datasets.load(DataConfig(name="folder", root=str(tmp_path), size=20), seed=0)
    assert "gray, like most of the files" in data.decoded.about
    images = np.concatenate(
        [np.asarray(part.images[np.arange(len(part))]) for part in (data.train, data.held_out)]
    )
    darkest = images[
        images.reshape(len(images), -1).max(axis=1).argmin()
    ]  # a quarter of the levels
    assert darkest.max() == round(255 / 4)
    assert (
        len(np.unique(darkest)) == darkest.max() + 1
    )  # each level of the range, none was lost in eight bits before


def test_a_folder_is_gray_where_most_of_it_is_and_where_somebody_says_so(tmp_path: Path) -> None:
    gray_files(tmp_path, 3)
    for i in range(2):
        photo(tmp_path / f"photo{i}.png", i)

    def channels(**keys: Any) -> int:
        return datasets.load(
            DataConfig(name="folder", root=str(tmp_path), size=8, **keys), seed=0
        ).spec.channels

    assert channels() == channels(cache_gb=0) == 1
    assert channels(channels=3) == 3
    for i in range(2, 5):
        photo(tmp_path / f"photo{i}.png", i)
    assert channels() == channels(cache_gb=0) == 3
    assert channels(channels=1) == 1
    (tmp_path / "cache").mkdir()
    root = str(tmp_path / "cache")
    with pytest.raises(
        ValueError, match=r"data\.channels=1: the images of data\.name=emoji have 3"
    ):
        datasets.load(DataConfig(name="emoji", root=root, size=8, channels=1), seed=0)
    with pytest.raises(
        ValueError,
        match=r"data\.size=8x12: data\.name=emoji supports 8x8",
    ):
        datasets.load(DataConfig(name="emoji", root=root, size=8, width=12), seed=0)


@pytest.mark.parametrize("inside", ["images", "download/images"])
def test_classes_below_the_only_folder_are_named(inside: str, tmp_path: Path) -> None:
    """Labels one level deeper than expected are not dropped without a word."""
    for name in ("cat", "dog"):
        for i in range(6):
            flat(tmp_path / inside / name / f"{i}.png", 20 * i)
    said = rf"the folders cat, dog are inside of {tmp_path / inside}\. Set data\.root="
    with pytest.warns(UserWarning, match=said):
        served = datasets.load(cfg(tmp_path), 0)
    assert served.class_names == []
    assert datasets.load(cfg(tmp_path / inside), 0).class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat"), ("cat", "cat "), ("cat.", "cat"), ("01", "1"),
     ("é", "e\N{COMBINING ACUTE ACCENT}"), ("ﬁr", "fir")],
)  # fmt: skip
def test_class_names_that_hardly_differ_are_named(names: tuple[str, str], tmp_path: Path) -> None:
    """Two classes that look like one are a warning, and classes that differ are none."""
    for i in range(4):
        for j, name in enumerate((*names, "dog", "0", "00 a")):
            flat(tmp_path / name / f"{i}.png", (i + 10 * j,) * 3)
    with pytest.warns(UserWarning, match="hardly differ") as seen:
        datasets.load(cfg(tmp_path), 0)
    ((text),) = [str(each.message) for each in seen]
    assert text.startswith(f"the class names {', '.join(map(repr, sorted(names)))} hardly differ")


@pytest.mark.parametrize("kind", ["copy", "hard link", "other compression"])
def test_image_in_two_classes_is_counted(kind: str, tmp_path: Path) -> None:
    """Its label is a contradiction, whatever the second file is."""
    for i in range(6):
        flat(tmp_path / "cat" / f"{i}.png", (i,) * 3)
        flat(tmp_path / "dog" / f"{i}.png", (100 + i,) * 3)
    assert "class" not in folder.decode(cfg(tmp_path)).about.partition("2 classes")[2]
    for i in (2, 4):
        first, second = tmp_path / "cat" / f"{i}.png", tmp_path / "dog" / f"x{i}.png"
        if kind == "copy":
            second.write_bytes(first.read_bytes())
        elif kind == "hard link":
            second.hardlink_to(first)
        else:
            flat(second.with_suffix(".bmp"), (i,) * 3)
    assert "; 2 images are in more than one class;" in folder.decode(cfg(tmp_path)).about


def test_folders_of_systems_are_no_classes(tmp_path: Path) -> None:
    """Thumbnails and trash of storage devices and operating systems, in any case."""
    for name in ("cat", "dog", "@eaDir", "$RECYCLE.BIN", "lost+found", "#Recycle", "__macosx"):
        for i in range(4):
            flat(tmp_path / name / f"{i}.png", (i,) * 3)
        flat(tmp_path / "cat" / name / "x.png", (9,) * 3)
    made = folder.decode(cfg(tmp_path))
    assert list(made.class_names) == ["cat", "dog"]
    assert made.files.used == 10
    assert "10 hidden folders" in made.about


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_first_of_several_frames_is_reported(suffix: str, tmp_path: Path) -> None:
    """The other frames of an animation, or pages of a scan, are not trained on."""
    for i in range(6):
        frames = [Image.new("RGB", (8, 8), (40 * i + each, 9, 9)) for each in range(3)]
        rest = frames[1:] if i < 5 else []
        frames[0].save(tmp_path / f"{i}{suffix}", save_all=True, append_images=rest, lossless=True)
    about = folder.decode(cfg(tmp_path)).about
    assert "5 with several frames or pages, of which the first is used" in about


def write_deep_color(path: Path, highest: int, samples: int) -> None:
    """Write a PNG file of 8x8 colors with 16 bits per channel; the last of 4 samples is alpha."""
    values = np.linspace(0, highest, 8 * 8 * samples).astype(">u2").reshape(8, 8, samples)
    if samples == 4:
        values[..., 3] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 8, 8, 16, {3: 2, 4: 6}[samples], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colors_of_16_bits_are_reported_or_refused(bits: int, samples: int, tmp_path: Path) -> None:
    """Of a camera of 12 bits, the upper 8 of 16 bits would be black."""
    for i in range(6):
        write_deep_color(tmp_path / f"{i}.png", 2**bits - 1 - i, samples)
    if bits < 16:
        with pytest.raises(UserError, match=f"6 color images .* only {bits}. .* Save the images"):
            folder.decode(cfg(tmp_path))
    else:
        assert "6 in color with 16 bits" in folder.decode(cfg(tmp_path)).about


def test_root_that_is_a_device_is_no_folder() -> None:
    """It exists."""
    with pytest.raises(UserError, match=r"data.root=/dev/null is no regular file. Set it to"):
        folder.decode(cfg(Path("/dev/null")))
