"""Zip files as data.root: faults are one line, and limits bound what is written."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_lab.config.schema import DataConfig
from gan_lab.data import archives, folder, layouts
from gan_lab.metrics.image_sets import ImageSet
from gan_lab.utils.errors import UserError
from tests.helpers.pictures import flat


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    made = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GAN_LAB_CACHE", str(made))
    return made


def pack(path: Path, separator: str = "/", system: int = 3, prefix: str = "") -> Path:
    """Write a zip file of 6 images each of two classes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("cat", "dog"):
            for i in range(6):
                image = flat(path.parent / "one.png", (i + 10 * (name == "dog"),) * 3)
                entry = zipfile.ZipInfo(f"{prefix}{name}{separator}{i}.png")
                entry.create_system = system
                packed.writestr(entry, image.read_bytes())
                image.unlink()
    return path


def set_header(path: Path, local: int, central: int, value: int) -> None:
    """Overwrite one byte of every header of a zip file."""
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        position = content.find(magic)
        while position >= 0:
            content[position + offset] = value
            position = content.find(magic, position + 4)
    path.write_bytes(content)


def encrypt(path: Path) -> None:
    set_header(pack(path), 6, 8, 1)


def use_deflate64(path: Path) -> None:
    set_header(pack(path), 8, 10, 9)


def use_method_42(path: Path) -> None:
    set_header(pack(path), 8, 10, 42)


def truncate(path: Path) -> None:
    content = pack(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def lose_beginning(path: Path) -> None:
    path.write_bytes(pack(path).read_bytes()[200:])


def flip_bit(path: Path) -> None:
    content = bytearray(pack(path).read_bytes())
    content[content.find(b"cat/3.png") + 20] ^= 4
    path.write_bytes(content)


def pack_damaged(path: Path, method: int, start: int) -> None:
    """Write a zip file with one compressed member, of which 30 bytes are zeros."""
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("cat.bmp", bytes(range(256)) * 99)
    content = bytearray(path.read_bytes())
    content[start : start + 30] = bytes(30)
    path.write_bytes(content)


def damage_lzma(path: Path) -> None:
    pack_damaged(path, zipfile.ZIP_LZMA, start=60)


def damage_bzip2(path: Path) -> None:
    pack_damaged(path, zipfile.ZIP_BZIP2, start=45)


def nest(path: Path) -> None:
    inner = pack(path.with_name("inner.zip"))
    with zipfile.ZipFile(path, "w") as packed:
        packed.write(inner, "deep/inner.zip")
        packed.writestr("deep/part2.TAR", b"")


def repeat_name(path: Path) -> None:
    with zipfile.ZipFile(pack(path), "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("cat/3.png", b"")


def climb_to_name(path: Path) -> None:
    """Add a name that zipfile shortens to one that the file has."""
    with zipfile.ZipFile(pack(path), "a") as packed:
        packed.writestr("../cat/./3.png", b"")


def use_file_as_folder(path: Path) -> None:
    with zipfile.ZipFile(pack(path), "a") as packed:
        packed.writestr("cat", b"")


def write_nothing(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.mkdir("cat")


def inflate(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for i in range(3):
            packed.writestr(f"{i}.bmp", bytes(400_000))


def tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a.png"), io.BytesIO())


FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (encrypt, "is encrypted with a password. Unpack it yourself"),
    (use_deflate64, "is compressed with deflate64, which Python cannot read. Unpack it"),
    (use_method_42, "is compressed with method 42, which Python cannot read. Unpack it"),
    (truncate, "is truncated: the list of files at its end is missing. Copy or download it"),
    (lose_beginning, "is damaged ("),
    (flip_bit, "is damaged ("),
    (damage_lzma, "is damaged ("),
    (damage_bzip2, "is damaged ("),
    (nest, "contains only other archives, such as deep/inner.zip. Unpack it"),
    (repeat_name, "contains two files of the name cat/3.png. Unpack it"),
    (climb_to_name, "contains two files of the name cat/3.png. Unpack it"),
    (use_file_as_folder, "contains two files of the name cat. Unpack it"),
    (write_nothing, "contains no files. Copy or download it again"),
    (inflate, "would unpack to 0.0 GB. The limit is 100 times its size, or 0.0 GB. Unpack it"),
    (tar, "is a tar archive, not a zip file. Unpack it yourself"),
    (lambda path: path.write_bytes(b"Rar!\x1a\x07"), "is a RAR archive, not a zip file."),
    (lambda path: path.write_bytes(b"text"), "is not a zip file. {use} a folder or"),
    (lambda path: path.touch(), "is not a zip file. {use} a folder or"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_zip_with_a_fault_is_one_line_and_leaves_nothing(
    spoil: Callable[[Path], None],
    message: str,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line names the archive and the fault, and does not advise to delete it."""
    monkeypatch.setattr(archives, "MIN_BOMB_BYTES", 10_000)
    path = tmp_path / "photos.zip"
    spoil(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(UserError) as raised:
            layouts.resolve_root(str(path))
        text = str(raised.value)
        assert text.startswith(f"{path} ")
        assert message.format(use="Set data.root to") in text
        assert len(text.splitlines()) == 1
        assert "elete" not in text
    assert path.read_bytes() == before
    assert not [found for found in cache.rglob("*") if not found.name.endswith(".lock")]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_scored_zip_with_a_fault_is_the_same_line(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``score`` says of a zip file what ``data.root`` says, with its own remedy."""
    monkeypatch.setattr(archives, "MIN_BOMB_BYTES", 10_000)
    path = tmp_path / "photos.zip"
    spoil(path)
    with pytest.raises(UserError) as raised:
        list(ImageSet(path, "reals", 10, False))
    text = str(raised.value)
    assert text.startswith(f"The reals cannot be read: {path} ")
    assert message.format(use="Pass") in text
    assert "data.root" not in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("separator", "system", "prefix", "classes"),
    [
        ("\\", 0, "", ["cat", "dog"]),
        ("\\", 3, "", ["cat", "dog"]),
        ("\\", 0, "photos/", ["cat", "dog"]),
        # On Unix, a backslash next to slashes belongs to the name.
        ("\\", 3, "photos/", []),
        ("/", 0, "photos\\", ["cat", "dog"]),
    ],
)
def test_zip_with_backslashes_has_folders(
    separator: str, system: int, prefix: str, classes: list[str], tmp_path: Path
) -> None:
    """PowerShell 5 separates folders by backslashes."""
    pack(tmp_path / "photos.zip", separator, system, prefix)
    made = folder.decode(DataConfig(name="folder", root=str(tmp_path / "photos.zip"), size=8))
    assert made.class_names == classes
    assert made.files is not None
    assert (made.files.seen, made.files.used) == (12, 12)


def test_zip_larger_than_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is unpacked that does not fit."""
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 10**7, 10**7)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 0\.0 GB in .*, where 0\.0 GB are free\. Set GAN_L"):
        layouts.resolve_root(str(pack(tmp_path / "photos.zip")))


def test_zip_with_lying_sizes_writes_no_more_than_them(tmp_path: Path, cache: Path) -> None:
    """An entry that unpacks to more than its header says is damaged."""
    path = tmp_path / "photos.zip"
    inflate(path)
    content = bytearray(path.read_bytes())
    position = content.find(b"PK\x01\x02")
    content[position + 24 : position + 28] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"photos\.zip is damaged"):
        layouts.resolve_root(str(path))
    assert not [found for found in cache.rglob("*") if not found.name.endswith(".lock")]


def test_zip_unpacked_by_an_earlier_version_keeps_its_classes(tmp_path: Path, cache: Path) -> None:
    """Its marker lies in the folder: it is no file next to the only folder of the archive."""
    path = pack(tmp_path / "photos.zip", prefix="photos/")
    inner = layouts.resolve_root(str(path))
    assert inner.name == "photos"
    unpacked = inner.parent
    (cache / f".{unpacked.name}.complete").rename(unpacked / ".complete")
    (unpacked / "photos" / "cat" / "0.png").unlink()
    assert layouts.resolve_root(str(path)) == inner
    # The archive is not unpacked again.
    assert not (inner / "cat" / "0.png").exists()
    assert [child.name for child in unpacked.iterdir()] == ["photos"]


def test_zip_with_hidden_files_at_its_top_keeps_its_classes(tmp_path: Path) -> None:
    """macOS writes .DS_Store."""
    path = pack(tmp_path / "photos.zip", prefix="photos/")
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(".DS_Store", b"")
    assert layouts.resolve_root(str(path)).name == "photos"


def test_zip_that_fails_keeps_files_of_an_earlier_start(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training may read the folder: only what this start created is deleted."""
    path = pack(tmp_path / "photos.zip")
    unpacked = layouts.resolve_root(str(path))
    (cache / f".{unpacked.name}.complete").unlink()
    usage = shutil._ntuple_diskusage(10**12, 10**12, 0)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="Set GAN_LAB_CACHE"):
        layouts.resolve_root(str(path))
    assert len([*unpacked.glob("*/*.png")]) == 12


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_damaged_tar_file_is_one_line(compression: str, tmp_path: Path) -> None:
    """Downloads may be tar files of any compression."""
    path = tmp_path / f"set.tar.{compression}"
    # Compressible, or it is stored, and damage is found by no decoder.
    content = np.random.default_rng(0).integers(8, size=300_000, dtype=np.uint8).tobytes()
    with tarfile.open(path, f"w:{compression}") as packed:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("a.png")
        entry.size = len(content)
        packed.addfile(entry, io.BytesIO(content))
    damaged = bytearray(path.read_bytes())
    damaged[50_000:50_100] = bytes(100)
    path.write_bytes(damaged)
    assert archives.unpack(path, tmp_path / "new").startswith(f"{path} is damaged (")
    assert not (tmp_path / "new").exists()


def test_zip_with_a_name_too_long_for_the_disk_is_named(tmp_path: Path, cache: Path) -> None:
    """The disk is not at fault, and nothing remains."""
    path = pack(tmp_path / "photos.zip")
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("a" * 300, b"")
    with pytest.raises(UserError, match=r"contains a name that is too long.* Unpack it yourself"):
        layouts.resolve_root(str(path))
    assert not [found for found in cache.rglob("*") if not found.name.endswith(".lock")]
