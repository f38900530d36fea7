"""CelebA in its layouts, its attributes as labels, its download, and the faces of scikit-image."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures
from torchvision import datasets

from gan_lab.config.schema import DataConfig
from gan_lab.data import celeba
from gan_lab.data.array_dataset import ArrayDataset
from tests.helpers.hosts import Host, serving

NAMES = ["5_o_Clock_Shadow", "Male", "Smiling"]
LAYOUTS = ["torchvision", "kaggle", "kaggle in a folder", "flat", "flat in a folder", "images"]
COUNT = 16


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_lab.data.download.is_reachable", lambda url: "127.0.0.1" in url)


def cfg(root: Path, **keys: object) -> DataConfig:
    return DataConfig(**{"name": "celeba", "root": str(root), "size": 8, **keys})  # type: ignore[arg-type]


def face(level: int) -> Image.Image:
    """178 x 218 pixels, white but for the middle 178 rows, which are of one level."""
    picture = Image.new("RGB", (178, 218), "white")
    picture.paste((level,) * 3, (0, 20, 178, 198))
    return picture


def attributes(i: int) -> list[int]:
    """Of image i: no shadow, male in every second one, smiling in the second half."""
    return [-1, 1 if i % 2 else -1, 1 if i >= COUNT // 2 else -1]


def write(root: Path, layout: str, attributed: bool = True, partitioned: bool = True) -> Path:
    """A CelebA of 16 faces of level 10 x their number.

    The partition holds out the last six, two of them for validation.
    """
    home = {
        "torchvision": root / "celeba",
        "kaggle": root,
        "flat": root,
        "images": root / "celeba" / "celeba",
    }.get(layout, root / "celeba")
    inside = {"torchvision": "img_align_celeba", "images": "images"}.get(
        layout, "img_align_celeba/img_align_celeba"
    )
    images = home if layout.startswith("flat") else home / inside
    images.mkdir(parents=True, exist_ok=True)
    names = [f"{i + 1:06}.jpg" for i in range(COUNT)]
    for i, name in enumerate(names):
        face(10 * i).save(images / name, quality=95)
    part = [0] * 10 + [1] * 2 + [2] * 4
    if "kaggle" in layout:
        lines = [",".join(["image_id", *NAMES])]
        lines += [",".join([name, *map(str, attributes(i))]) for i, name in enumerate(names)]
        parts = [
            "image_id,partition",
            *(f"{name},{p}" for name, p in zip(names, part, strict=True)),
        ]
    else:
        lines = [str(COUNT), " ".join(NAMES) + " "]
        lines += [
            f"{name} " + "".join(f"{value:>3}" for value in attributes(i))
            for i, name in enumerate(names)
        ]
        parts = [f"{name} {p}" for name, p in zip(names, part, strict=True)]
    ending = "csv" if "kaggle" in layout else "txt"
    if attributed:
        (home / f"list_attr_celeba.{ending}").write_text("\n".join(lines) + "\n")
    if partitioned:
        (home / f"list_eval_partition.{ending}").write_text("\n".join(parts) + "\n")
    return images


def numbers(images: object) -> list[int]:
    """Which faces these are; each must be of one level, or more than the crop was shown."""
    pixels = np.asarray(images[np.arange(len(images))]).astype(int)  # type: ignore[index,arg-type]
    assert pixels.shape[1:] == (3, 8, 8)
    middle = pixels[:, :, 1:-1, 1:-1]
    assert np.ptp(middle.reshape(len(pixels), -1), axis=1).max() <= 4  # JPEG
    return (middle.mean((1, 2, 3)) / 10).round().astype(int).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_with_its_partition_and_attributes(
    tmp_path: Path, layout: str
) -> None:
    images = write(tmp_path, layout)
    made = celeba.decode(cfg(tmp_path, attributes=["Smiling", "Male"]))
    assert numbers(made.train_images) == list(range(10))
    assert numbers(made.test_images) == [10, 11, 12, 13, 14, 15]
    assert made.validation is not None
    assert made.validation.tolist() == [0, 1]  # the authors' own
    assert made.spec.classes == 4
    for of, labels in (
        (made.train_images, made.train_labels),
        (made.test_images, made.test_labels),
    ):
        assert labels.tolist() == [1 * (i >= 8) + 2 * (i % 2) for i in numbers(of)]
        assert labels.dtype == np.int64
    assert made.source == "full"
    assert (
        made.about
        == f"16 faces of CelebA (10 train, 6 held out) from {images}, classes by Smiling, Male"
    )
    plain = celeba.decode(cfg(tmp_path))
    assert (plain.spec.classes, plain.train_labels) == (0, None)
    assert plain.fingerprint != made.fingerprint


def test_without_a_partition_some_are_held_out_of_each_class(tmp_path: Path) -> None:
    write(tmp_path, "torchvision", partitioned=False)
    made = celeba.decode(cfg(tmp_path, attributes=["Male"]))
    assert sorted(numbers(made.train_images) + numbers(made.test_images)) == list(range(COUNT))
    assert len(made.test_images) == 4
    assert made.validation is None


def test_an_unreadable_face_takes_its_label_with_it(tmp_path: Path) -> None:
    images = write(tmp_path, "torchvision")
    (images / "000004.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 of 16 images are unreadable: .*000004.jpg"):
        made = celeba.decode(cfg(tmp_path, attributes=["Male", "Smiling"], max_unreadable=0.1))
    assert numbers(made.train_images) == [0, 1, 2, *range(4, 10)]
    assert made.train_labels.tolist() == [i % 2 + 2 * (i >= 8) for i in numbers(made.train_images)]


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (
            ["Smilling"],
            (
                "data.attributes=Smilling: unknown attribute 'Smilling'. Did you mean 'Smiling'? "
                "Available: 5_o_"
            ),
        ),
        (["Male", "Male"], "data.attributes=Male,Male: list up to 8 attributes, each once."),
    ],
)
def test_attributes_that_cannot_be_served_are_answered(
    tmp_path: Path, wanted: list[str], answer: str
) -> None:
    write(tmp_path, "kaggle")
    with pytest.raises(ValueError, match=re.escape(answer)):
        celeba.decode(cfg(tmp_path, attributes=wanted))


def test_a_missing_or_damaged_attribute_file_is_named(tmp_path: Path) -> None:
    images = write(tmp_path, "torchvision", attributed=False)
    asked = cfg(tmp_path, attributes=["Male"])
    with pytest.raises(
        ValueError,
        match=rf"no list_attr_celeba.txt or .csv next to {images}. Download it from https://mmlab",
    ):
        celeba.decode(asked)
    table = tmp_path / "celeba" / "list_attr_celeba.txt"
    for content in ("", "<html>Quota exceeded</html>\n", "2\nMale Smiling\n000001.jpg 1\n"):
        table.write_text(content)
        with pytest.raises(ValueError, match=f"{table} is not a CelebA table"):
            celeba.decode(asked)
    table.write_text("1\nMale\n000001.jpg 1\n")
    with pytest.raises(ValueError, match=r"lacks 000002.jpg and 14 others"):
        celeba.decode(asked)


def test_the_crop_of_178_pixels_is_resized_to_any_size(tmp_path: Path) -> None:
    images = write(tmp_path, "torchvision")
    noise = np.random.default_rng(0).integers(256, size=(218, 178, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "000001.jpg", quality=100, subsampling=0)
    stored = np.asarray(Image.open(images / "000001.jpg"))
    made = celeba.decode(cfg(tmp_path, size=178))
    assert np.array_equal(made.train_images[np.array([0])][0].transpose(1, 2, 0), stored[20:198])


def sample(tmp_path: Path, size: int) -> ArrayDataset:
    return celeba.decode(cfg(tmp_path, source="sample", size=size))


def test_the_sample_is_the_first_hundred_rows_which_are_faces(tmp_path: Path) -> None:
    made = sample(tmp_path, 25)
    assert made.spec.shape == (1, 25, 25)
    assert (len(made.train_images), len(made.test_images), made.train_labels) == (80, 20, None)
    mine = sorted(
        image.tobytes() for image in [*np.asarray(made.train_images), *np.asarray(made.test_images)]
    )  # type: ignore[call-overload]
    faces = (pictures.lfw_subset()[:100] * 255).round().astype(np.uint8)
    assert mine == sorted(face.tobytes() for face in faces)
    assert made.about == (
        "100 real faces (LFW) from scikit-image (80 train, 20 held out): data.source=sample"
    )
    larger = sample(tmp_path, 64)
    assert larger.train_images.shape == (80, 1, 64, 64)  # type: ignore[attr-defined]
    rows = np.arange(80)
    difference = larger.train_images[rows].mean((1, 2, 3)) - made.train_images[rows].mean((1, 2, 3))
    assert abs(difference).max() < 3  # the same faces in the same order


def test_without_network_full_says_what_to_do_and_auto_takes_the_sample(tmp_path: Path) -> None:
    problem = (
        rf"CelebA is not in {tmp_path} and the downloads failed "
        r"\(drive.*cannot be reached; .*dropbox.*\)"
    )
    steps = "Download img_align_celeba.zip, .*"
    with pytest.raises(ValueError, match=f"^data.source=full: {problem}. {steps}"):
        celeba.decode(cfg(tmp_path, source="full"))
    made = celeba.decode(cfg(tmp_path))
    assert made.source == "sample"
    assert "cannot be reached" in made.about
    with pytest.raises(
        ValueError,
        match=r"data.attributes=Male: the sample faces have no attributes. .*data.source=sample",
    ):
        celeba.decode(cfg(tmp_path, source="sample", attributes=["Male"]))


def packed(root: Path, layout: str, archive: Path, **keys: bool) -> bytes:
    """What ``write`` writes, as a zip file of what lies in ``celeba``."""
    write(root, layout, **keys)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*.*")):
            file.write(path, path.relative_to(root / "celeba"))
    return archive.read_bytes()


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("torchvision", "img_align_celeba.zip"),
        ("images", "celeba.zip"),
        ("kaggle in a folder", "archive.zip"),
    ],
)
def test_archives_that_were_put_there_are_unpacked(
    tmp_path: Path, layout: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "made", layout, tmp_path / "root" / "celeba" / name)
    monkeypatch.setattr(celeba, "SHA256", {})
    made = celeba.decode(cfg(tmp_path / "root", source="full", attributes=["Male"]))
    assert numbers(made.test_images) == [10, 11, 12, 13, 14, 15]


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "celeba").mkdir()
    with zipfile.ZipFile(tmp_path / "celeba" / "celeba.zip", "w") as file:
        file.writestr("dogs/a.txt", "x")
    with pytest.raises(ValueError, match=rf"{tmp_path}/celeba/celeba.zip does not contain CelebA"):
        celeba.decode(cfg(tmp_path, source="full"))


def test_addresses_on_drive_are_those_of_torchvision() -> None:
    known = {
        name: f"{celeba.GOOGLE_DRIVE_URL}{number}" for number, _, name in datasets.CelebA.file_list
    }
    assert celeba.ON_DRIVE.items() <= known.items()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Every source of CelebA is this host: Drive sends a page for the images."""
    with serving() as made:
        drive = {
            name: made.url(name) for name in ("list_attr_celeba.txt", "list_eval_partition.txt")
        }
        monkeypatch.setattr(
            celeba, "ON_DRIVE", {"img_align_celeba.zip": made.url("page.zip"), **drive}
        )
        monkeypatch.setattr(celeba, "MIRROR_URLS", (made.url("mirror.zip"),))
        monkeypatch.setattr(celeba, "BUNDLE_URLS", (made.url("bundle.zip"),))
        monkeypatch.setattr(celeba, "SHA256", dict.fromkeys(celeba.SHA256, ""))
        yield made


def test_the_mirror_is_asked_when_drive_sends_a_page(tmp_path: Path, host: Host) -> None:
    content = packed(
        tmp_path / "made", "torchvision", tmp_path / "a.zip", attributed=False, partitioned=False
    )
    host.files["/mirror.zip"] = content
    host.breaks = 1  # of the page, which is thrown away
    write(tmp_path / "tables", "torchvision")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        host.files[f"/{name}"] = (tmp_path / "tables" / "celeba" / name).read_bytes()
    made = celeba.decode(cfg(tmp_path / "root", attributes=["Male"]))
    assert numbers(made.train_images) == list(range(10))
    asked = len(host.requests)
    celeba.decode(cfg(tmp_path / "root"))
    assert len(host.requests) == asked


def test_the_bundle_is_the_last_resort(tmp_path: Path, host: Host) -> None:
    host.files["/bundle.zip"] = packed(tmp_path / "made", "images", tmp_path / "a.zip")
    made = celeba.decode(cfg(tmp_path / "root", source="full", attributes=["Smiling"]))
    assert numbers(made.test_images) == [10, 11, 12, 13, 14, 15]


def test_when_every_source_fails_each_is_named(tmp_path: Path, host: Host) -> None:
    with pytest.raises(
        ValueError,
        match=r"the downloads failed \(127.0.0.1: sent an HTML page.*; "
        r"127.0.0.1: HTTP status 404; 127.0.0.1: HTTP status 404\)",
    ):
        celeba.decode(cfg(tmp_path, source="full"))
