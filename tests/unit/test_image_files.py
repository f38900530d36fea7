"""Users' image files: which are found, color modes, errors, and the cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, image_files, image_reader
from gan_lab.data.image_reader import UnreadableError
from gan_lab.data.split import SelectedRows
from gan_lab.utils import output, provenance
from gan_lab.utils.output import OutputFiles
from tests.helpers.pictures import every_fault, every_mode, flat, noise


def test_images_are_found_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    count = every_mode(tmp_path)
    found = image_files.find_images(tmp_path)
    assert len(found) == len(set(found)) == count  # a loop of links does not repeat them
    assert found == sorted(found)
    assert tmp_path / "deeper" / "nested.bmp" in found
    assert tmp_path / "sixteen bits.PNG" in found  # endings in capitals
    assert not [path for path in found if path.name.startswith(".") or path.suffix == ".txt"]
    assert image_files.count_suffixes(tmp_path).startswith("6 .png, 4 .jpg, 1 .bmp")
    assert "1 .txt" in image_files.count_suffixes(tmp_path)


def test_links_are_followed_the_cache_and_the_output_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAN_LAB_CACHE", raising=False)
    elsewhere = flat(tmp_path / "elsewhere" / "a.png", 0).parent
    root = flat(tmp_path / "root" / "b.png", 0).parent
    (root / "link").symlink_to(elsewhere)
    (root / "dead link.png").symlink_to(root / "nowhere.png")
    flat(root / "cache" / "c.png", 0)
    flat(root / "out" / "d.png", 0)
    flat(root / "__MACOSX" / "e.png", 0)
    with pytest.warns(UserWarning, match=rf"skipped in {root}: 1 broken link \(dead link.png\)$"):
        names = [path.name for path in image_files.find_images(root, exclude=root / "out")]
    assert names == ["b.png", "c.png", "a.png"]  # a class may be called cache
    (root / "dead link.png").unlink()
    (root / "cache" / ".horses-0123.lock").touch()
    assert [path.name for path in image_files.find_images(root)] == ["b.png", "a.png", "d.png"]


def test_a_folder_of_two_names_is_known_by_its_own(tmp_path: Path) -> None:
    flat(tmp_path / "z" / "a.png", 0)
    (tmp_path / "a link").symlink_to(tmp_path / "z")
    assert image_files.find_images(tmp_path) == [tmp_path / "z" / "a.png"]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
def test_what_every_mode_shows_is_kept(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), "black")
    picture.paste("white", (0, 0, 3, 4))
    picture.convert(mode).save(tmp_path / "a.png")
    pixels = image_reader.read_image(tmp_path / "a.png")
    assert pixels.shape == (3, 4, 6)
    assert pixels.dtype == np.uint8
    assert (pixels[..., :3] == 255).all()
    assert (pixels[..., 3:] == 0).all()


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 30, 90)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert abs(image_reader.read_image(tmp_path / "a.jpg").mean((1, 2)) - (200, 30, 90)).max() < 5


def test_transparency_is_white_and_half_of_it_half_white(tmp_path: Path) -> None:
    picture = Image.new(
        "RGBA", (8, 8), (255, 0, 0, 0)
    )  # a transparent border whose hidden color is red
    picture.paste((0, 0, 255, 255), (2, 2, 6, 6))
    picture.paste((0, 0, 0, 128), (3, 3, 5, 5))
    picture.save(tmp_path / "a.png")
    pixels = image_reader.read_image(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 2, 2].tolist() == [0, 0, 255]
    assert pixels[:, 3, 3].tolist() == [127, 127, 127]
    palette = noise().convert("P")
    palette.save(tmp_path / "p.png", transparency=0)
    hidden = np.asarray(palette) == 0
    assert hidden.any()
    assert (image_reader.read_image(tmp_path / "p.png")[:, hidden] == 255).all()


@pytest.mark.parametrize(
    ("levels", "ending"),
    [(np.uint16([0, 257, 32896, 65535]), "png"), (np.uint16([0, 257, 32896, 65535]), "tif"),
     (np.float32([0, 1 / 255, 128 / 255, 1]), "tif"), (np.float32([0, 1, 128, 255]), "tif"),
     (np.float32([0, 257, 32896, 65535]), "tif")],
)  # fmt: skip
def test_sixteen_and_thirty_two_bits_are_scaled_and_not_clipped(
    levels: np.ndarray, ending: str, tmp_path: Path
) -> None:
    Image.fromarray(levels[None]).save(tmp_path / f"a.{ending}")
    assert image_reader.read_image(tmp_path / f"a.{ending}")[0, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_as_the_camera_was_held(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # the corner that is up and left when it is shown
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
              5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 7: np.rot90(upright, 1)[:, ::-1],
              8: np.rot90(upright, -1)}  # fmt: skip
    if orientation == 7:
        stored[7] = upright[::-1, ::-1].swapaxes(0, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(image_reader.read_image(tmp_path / "a.png").transpose(1, 2, 0), upright)


def test_damaged_exif_costs_no_picture(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert image_reader.read_image(tmp_path / "a.jpg").shape == (3, 20, 24)


@pytest.mark.parametrize(
    ("width", "height"), [(40, 20), (20, 40), (21, 20), (20, 20), (1, 1), (300, 1)]
)
def test_the_middle_square_is_taken_whatever_the_shape(
    width: int, height: int, tmp_path: Path
) -> None:
    side = min(width, height)
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("blue", (int((width - side) / 2), int((height - side) / 2),
                           -int(-(width + side) // 2), -int(-(height + side) // 2)))  # fmt: skip
    picture.save(tmp_path / "a.png")
    pixels = image_reader.read_framed(tmp_path / "a.png", image_reader.Frame(10, 10))
    assert pixels.shape == (3, 10, 10)
    inside = pixels[:, 1:-1, 1:-1]
    assert inside[2].min() == 255
    assert inside[0].max() == 0
    assert pixels[2].min() > 200  # at the border what lies outside is averaged in


def test_resizing_averages_what_falls_together(tmp_path: Path) -> None:
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::4] = 252
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert (
        abs(
            image_reader.read_framed(tmp_path / "a.png", image_reader.Frame(10, 10))[
                :, :, 1:-1
            ].astype(int)
            - 63
        ).max()
        <= 1
    )


def test_a_crop_of_pixels_is_exact_and_smaller_pictures_give_what_they_have(tmp_path: Path) -> None:
    noise(11, 15).save(tmp_path / "a.png")
    whole = image_reader.read_image(tmp_path / "a.png")
    assert np.array_equal(
        image_reader.read_framed(tmp_path / "a.png", image_reader.Frame(7, 7), crop=7),
        whole[:, 4:11, 2:9],
    )
    assert np.array_equal(
        image_reader.read_framed(tmp_path / "a.png", image_reader.Frame(11, 11), crop=99),
        whole[:, 2:13],
    )


def test_every_fault_is_refused_with_its_name_and_reason(tmp_path: Path) -> None:
    reasons = every_fault(tmp_path)
    assert sorted(reasons) == [path.name for path in image_files.find_images(tmp_path)]
    for name, reason in reasons.items():
        with pytest.raises(
            UnreadableError, match=f"^{re.escape(str(tmp_path / name))}: [^/]*{re.escape(reason)}"
        ) as seen:
            image_reader.read_image(tmp_path / name)
        assert len(str(seen.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheic", "a HEIC image: convert it"),
        (b"\xff\x0a", "an image in a format that Pillow does not read: convert it"),
        (b"  <!DOCTYPE html><html>", "a web page, not an image: download it again"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"other", "cannot identify image file"),
    ],
)
def test_file_with_the_ending_of_an_image_is_described(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    """The reason says what the file is, and what to do."""
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadableError, match=re.escape(f"a.jpg: {reason}")):
        image_reader.read_image(tmp_path / "a.jpg")


def test_a_survey_counts_endings_modes_sizes_and_what_has_no_header(tmp_path: Path) -> None:
    flat(tmp_path / "a.png", 0, size=(4, 9))
    flat(tmp_path / "b.png", 0, size=(8, 7))
    flat(tmp_path / "c" / "d.png", 0, size=(6, 5), mode="LA")
    (tmp_path / "e.jpg").write_bytes(b"nothing")
    (tmp_path / "README").touch()
    assert image_files.survey(tmp_path) == {
        "extensions": "3 .png, 1 .jpg, 1 without extension",
        "modes": "2 RGB, 1 LA",
        "widths": "4 to 8, median 6",
        "heights": "5 to 9, median 7",
        "unreadable": "e.jpg (UnidentifiedImageError)",
    }
    assert image_files.survey(tmp_path / "c" / "nothing") == {
        "extensions": "no files",
    }


def open_files(paths: list[Path], cache: Path, **keys: object) -> decoding.DecodedItems:
    cfg = DataConfig(size=8, **keys)  # type: ignore[arg-type]
    items = [(path,) for path in paths]
    return decoding.open_items(cfg, items, "test", cache=cache)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.delenv("GAN_LAB_CACHE", raising=False)
    return [flat(tmp_path / f"{value}.png", (value,) * 3) for value in (10, 20, 30)]


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_decoded_now_or_when_they_are_read_the_pixels_are_the_same(
    three: list[Path], tmp_path: Path, cache_gb: float
) -> None:
    made = open_files(three, tmp_path, cache_gb=cache_gb)
    assert made.lazy == (cache_gb == 0)
    assert made.note == " (3 center-cropped)" + (
        "" if cache_gb else " (decoded on the fly, larger than data.cache_gb; see data.workers)"
    )
    pixels = made.pixels[np.array([2, 0, 2])]
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels.reshape(3, -1).tolist() == [[30] * 192, [10] * 192, [30] * 192]
    assert len(made.pixels) == 3
    some = SelectedRows(made.pixels, np.array([1, 2]), (0, 2))
    assert len(some) == 2
    assert some[np.array([1, 0])][:, :, 0, 0].tolist() == [[30, 30], [20, 20]]


def test_a_second_start_decodes_nothing_and_a_changed_file_everything(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files(three, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_decode", lambda *_: pytest.fail("it was decoded a second time"))
        assert open_files(three, tmp_path).fingerprint == before.fingerprint
    flat(three[1], (99,) * 3)
    os.utime(three[1], ns=(1, 1))
    after = open_files(three, tmp_path)
    assert after.pixels[np.array([1])].max() == 99
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_unreadable_files_are_named_and_left_out_at_every_start(
    three: list[Path], tmp_path: Path, cache_gb: float
) -> None:
    three[1].write_bytes(three[1].read_bytes()[:-30])
    words = (
        r"1 of 3 images are unreadable: 20.png: .*"  # by their names under what they have in common
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"skipping unreadable files: {words}"):
            made = open_files(three, tmp_path, cache_gb=cache_gb, max_unreadable=0.5)
        assert made.indices.tolist() == [0, 2]
        assert made.pixels[np.array([0, 1])][:, 0, 0, 0].tolist() == [10, 30]
    with pytest.raises(ValueError, match=f"{words}.* This exceeds data.max_unreadable=0.01"):
        open_files(three, tmp_path, cache_gb=cache_gb)


def test_of_many_unreadable_files_the_first_three_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        path.write_text("x")
    with pytest.raises(
        ValueError,
        match=r"^5 of 5 images are unreadable: 0.png: [^;]*; 1.png: [^;]*; 2.png: "
        r"[^;]* and 2 more\. Convert them",
    ):
        open_files(paths, tmp_path, max_unreadable=1.0)


@pytest.mark.parametrize(
    ("n", "held"), [(2, 1), (3, 1), (4, 2), (12, 4), (50, 5), (1000, 100), (30_000, 2000)]
)
def test_a_tenth_is_held_out_at_least_four_and_at_most_two_thousand(n: int, held: int) -> None:
    train, test = decoding.split_train_test(n)
    assert len(test) == held
    assert sorted([*train, *test]) == list(range(n))
    assert n < 50 or test.max() > held  # not the first ones
    assert np.array_equal(test, decoding.split_train_test(n)[1])


def test_each_class_gives_its_tenth_and_keeps_an_only_image() -> None:
    labels = np.array([0] * 40 + [1] * 100 + [2])
    train, test = decoding.split_train_test(len(labels), labels)
    assert np.bincount(labels[test]).tolist() == [4, 10]
    assert 140 in train
    train, test = decoding.split_train_test(3, np.array([0, 1, 1]))
    assert 0 in train
    with pytest.raises(ValueError, match="Too few images: 1"):
        decoding.split_train_test(1)


def test_fingerprints_of_other_things_differ() -> None:
    variants = [("a", np.arange(3)), ("a", np.arange(4)), ("b", np.arange(3)), ("a", None)]
    assert len({decoding.combine_fingerprints(*variant) for variant in variants}) == 4


def halves(width: int, height: int) -> Image.Image:
    """The left half red, the right half blue."""
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("blue", (width // 2, 0, width, height))
    return picture


RED, BLUE = [255, 0, 0], [0, 0, 255]


def test_an_image_is_cropped_padded_or_stretched_into_a_frame_that_need_not_be_square() -> None:
    wide = halves(60, 20)
    wide.paste("white", (0, 0, 20, 20))  # what a crop to the middle third loses
    wide.paste("white", (40, 0, 60, 20))
    cropped = image_reader.put_into_frame(wide, image_reader.Frame(20, 20))
    assert cropped.shape == (3, 20, 20)
    assert cropped[:, :, 0].T.tolist() == [RED] * 20
    assert cropped[:, :, -1].T.tolist() == [BLUE] * 20
    padded = image_reader.put_into_frame(halves(60, 20), image_reader.Frame(30, 30, "pad"))
    assert padded[:, 0, 0].tolist() == padded[:, 15, 0].tolist() == padded[:, -1, 0].tolist() == RED
    assert padded[:, 0, -1].tolist() == padded[:, -1, -1].tolist() == BLUE
    marked = halves(60, 20)
    marked.paste("white", (0, 0, 60, 4))
    rows = image_reader.put_into_frame(marked, image_reader.Frame(60, 60, "pad"))[
        :, :, 5
    ].T.tolist()
    assert rows == [[255] * 3] * 24 + [RED] * 36  # 20 above it repeat its edge
    stretched = image_reader.put_into_frame(wide, image_reader.Frame(10, 10, "stretch"))
    assert stretched[:, 5, 0].tolist() == stretched[:, 5, -1].tolist() == [255] * 3
    assert (
        stretched[0, 5, 4] > 200 > 50 > stretched[2, 5, 4]
    )  # red to the left of the middle, blue to its right
    assert stretched[2, 5, 5] > 200 > 50 > stretched[0, 5, 5]
    tall = image_reader.put_into_frame(halves(20, 60), image_reader.Frame(30, 20))
    assert tall.shape == (3, 30, 20)
    gray = image_reader.put_into_frame(halves(8, 8), image_reader.Frame(4, 8, gray=True))
    assert gray.shape == (1, 4, 8)
    assert gray[0, 0, [0, -1]].tolist() == [76, 29]  # the luma of red and of blue


# The beginning of a file, and why it is left out if its extension is unknown.
BEGINNINGS = {
    b"\xff\xd8\xff\xe0": image_files.MISNAMED_IMAGES,
    b"\x89PNG\r\n\x1a\n": image_files.MISNAMED_IMAGES,
    b"\0\0\0\x18ftypheic": image_files.UNSUPPORTED_FORMAT,
    b"\0\0\0\x18ftypmif1": image_files.UNSUPPORTED_FORMAT,
    b"\0\0\0\x0cJXL \r\n": image_files.UNSUPPORTED_FORMAT,
    b"8BPS\0\1": image_files.UNSUPPORTED_FORMAT,
    b"RIFF\x24\0\0\0WAVEfmt ": image_files.OTHER_FILES,
    b"BMW and other text": image_files.OTHER_FILES,
    b"": image_files.OTHER_FILES,
}


@pytest.mark.parametrize("suffix", ["", ".hif", ".png~", ".jpg?w=500", ".jpg_large", ".txt"])
@pytest.mark.parametrize(("beginning", "reason"), BEGINNINGS.items())
def test_inventory_counts_what_begins_like_an_image(
    suffix: str, beginning: bytes, reason: str, tmp_path: Path
) -> None:
    """A list of extensions does not decide it."""
    (tmp_path / f"a{suffix}").write_bytes(beginning + bytes(30))
    found = image_files.take_inventory(tmp_path)
    assert {key: n.total() for key, n in found.left_out.items()} == {reason: 1}


@pytest.mark.parametrize("name", ["BMP", "WEBP", "PPM", "TGA", "JPEG2000", "TIFF", "GIF", "ICO"])
def test_inventory_recognizes_the_formats_of_pillow(name: str, tmp_path: Path) -> None:
    """TGA files have no mark at their beginning."""
    noise(16, 16).save(tmp_path / "a.unknown", format=name)
    found = image_files.take_inventory(tmp_path)
    assert (image_files.MISNAMED_IMAGES in found.left_out) == (name != "TGA")


@pytest.mark.parametrize(("n", "images", "counted"), [(50, 1, 1), (5000, 2500, 2500), (5000, 0, 0)])
def test_inventory_samples_many_files_of_one_extension(
    n: int, images: int, counted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions of 200,000 images are not all opened; if some are images, all are."""
    opened: list[str] = []

    def sniff(path: str) -> str:
        opened.append(path)
        is_image = path in paths[:images]
        return image_files.MISNAMED_IMAGES if is_image else image_files.OTHER_FILES

    paths = [f"{i}.txt" for i in range(n)]
    monkeypatch.setattr(image_files, "_sniff", sniff)
    assert image_files._sniff_all(paths)[image_files.MISNAMED_IMAGES] == counted
    assert len(opened) <= (n if n <= 1000 else 1000 + n * (images > 0))


def test_inventory_names_dead_links_and_special_files(tmp_path: Path) -> None:
    """A class that is a dead link, a cycle of links, a pipe: none stops the search."""
    flat(tmp_path / "cat" / "a.png", 0)
    (tmp_path / "dog").symlink_to("/nowhere/dog")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(UserWarning, match=r"2 broken links \(dog; loop\)$"):
        assert [path.name for path in image_files.find_images(tmp_path)] == ["a.png"]
    found = image_files.take_inventory(tmp_path)
    assert found.left_out[image_files.SPECIAL_FILES] == {"pipe.png": 1}
    assert found.seen == 4


@pytest.mark.parametrize("closed", ["dog", "cat/inner", "a/b/c"])
def test_inventory_names_closed_folders_at_any_depth(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path begins with the class that is lost."""
    flat(tmp_path / "cat" / "a.png", 0)
    (tmp_path / closed).mkdir(parents=True)
    real = os.scandir

    def scandir(path: object = ".") -> object:
        if str(path).endswith(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match=rf"1 inaccessible folder \({closed}\)$"):
        image_files.find_images(tmp_path)


def test_inventory_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data.root=. is a folder like any other."""
    flat(tmp_path / "cat" / "a.png", 0)
    monkeypatch.chdir(tmp_path)
    found = image_files.take_inventory(Path("."))
    assert found.folders_with_images == {"cat"}
    assert found.under(found.folder / "cat") == found.images


@pytest.mark.parametrize(
    ("photos", "edited", "left", "hashed"),
    [(0, 0, 3, 0), (0, 1, 3, 0), (2, 0, 2, 3), (2, 1, 3, 3)],
)
def test_inventory_hashes_outputs_only_next_to_other_images(
    photos: int,
    edited: int,
    left: int,
    hashed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outputs alone are the data. Next to photos they are left out, unless they were edited."""
    for i in range(3):
        with OutputFiles().write(tmp_path / f"{i}.png") as unfinished:
            flat(unfinished, i)
    for i in range(edited):
        flat(tmp_path / f"{i}.png", 99)
    for i in range(photos):
        flat(tmp_path / f"photo{i}.png", i)
    seen: list[Path] = []
    hash_file = output.hash_file
    monkeypatch.setattr(output, "hash_file", lambda path: seen.append(path) or hash_file(path))
    assert len(image_files.take_inventory(tmp_path).images) == left
    assert len(seen) == hashed


def test_headers_of_unchanged_files_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache, a later search reads no file, and a changed file is noticed."""
    monkeypatch.delenv("GAN_LAB_CACHE", raising=False)
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png", "c.jpg"):
        flat(photos / name, 50)
    made = photos / "made.png"
    provenance.save_png(Image.new("L", (8, 8)), made, {"output": "sample"})
    read: list[str] = []
    read_record = provenance.read_record
    monkeypatch.setattr(
        provenance, "read_record", lambda path: read.append(Path(path).name) or read_record(path)
    )

    def search() -> list[str]:
        read.clear()
        found = image_files.take_inventory(photos, cache=tmp_path / "data")
        return [Path(path).name for path in found.images]

    assert search() == ["a.png", "b.png", "c.jpg"]
    assert sorted(read) == ["a.png", "b.png", "made.png"]
    assert search() == ["a.png", "b.png", "c.jpg"]
    assert read == []
    flat(made, 50)
    assert search() == ["a.png", "b.png", "c.jpg", "made.png"]


def test_images_are_sorted_like_paths(tmp_path: Path) -> None:
    """By their parts: ``a/z.png`` comes before ``a b/y.png`` and ``a-b.png``."""
    names = ["a/z.png", "a b/y.png", "a-b.png", "a!/x.png", "ab/w.png", "a/b/v.png", "B.png"]
    for name in names:
        flat(tmp_path / name, 50)
    found = image_files.take_inventory(tmp_path).images
    assert found == [str(path) for path in sorted(tmp_path / name for name in names)]
