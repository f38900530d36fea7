"""From a PNG file alone: the command that draws it again gives the same bytes."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gan_lab import cli, load_generator
from gan_lab.data import image_files
from gan_lab.inference.direction_search import find_directions
from gan_lab.inference.export import export
from gan_lab.metrics.image_sets import ImageSet
from gan_lab.utils import provenance
from gan_lab.utils.output import MANIFEST_NAME
from tests.helpers.folders import run_folder
from tests.helpers.pictures import noise

# options of a command that writes PNG files, by what they draw
DRAWN = {
    "samples": "sample {cgan} -n 5 --seed 3",
    "a class": "sample {cgan} -n 3 --seed 9007199254740993 --class 7 --truncation 0.5",
    "interpolation": "sample {cgan} -n 6 --interpolate 3 --class 2",
    "unconditional": "sample {gan} -n 2",
    "last checkpoint": "sample {gan}/checkpoints/last.ckpt -n 2",
    "raw weights": "sample {gan} -n 2 --weights raw",
    "last weights": "reconstruct {vaegan} -n 2 --weights last",
    "raw reconstruction": "reconstruct {vaegan} -n 2 --weights raw",
    "raw interpolation": "interpolate {vaegan} -n 2 --steps 3 --weights raw",
    "moved": "sample {gan} -n 2 --move pc2=-1.25 --move pc1=2",
    "moved along a file": "sample {gan} -n 2 --move pc1=2 --directions own.json",
    "projection": "project {gan} -n 1 --steps 3",
    "projected file": "project {gan} photo.png --steps 2 --space z",
    "codes": "sample {infogan} -n 10 --code 1 --seed 1",
    "reconstruction": "reconstruct {vaegan} -n 2",
    "test interpolation": "interpolate {vaegan} -n 2 --steps 3",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    """Return run folders by family, below ``my runs``."""
    root = tmp_path_factory.mktemp("lab") / "my runs"
    names = ("cgan", "gan", "infogan", "vaegan", "pix2pix")
    folders = {name: run_folder(name, root / name, data_root) for name in names}
    found = find_directions(folders["gan"], count=2, n=100, labels="none")
    found.save(folders["gan"] / "directions.json")
    return folders


def call(words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Run a command as the console script does; return its exit code and its lines."""
    monkeypatch.setattr(sys, "argv", ["gan-lab", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exited:
        cli.main()
    said = capsys.readouterr()
    return int(exited.value.code or 0), [*said.err.splitlines(), *said.out.splitlines()]


@pytest.mark.parametrize("kind", DRAWN)
def test_identify_prints_command_that_draws_same_bytes(
    kind: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was moved and renamed; the run is found below --root."""
    monkeypatch.chdir(tmp_path)
    noise(28, 28).save("photo.png")
    find_directions(runs["gan"], count=1, n=200, labels="none").save(Path("own.json"))
    words = [
        word.format(**runs)
        for word in shlex.split(DRAWN[kind].replace("{", "'{").replace("}", "}'"))
    ]
    path = tmp_path / "x.png"
    assert call([*words, "--out", str(path)], capsys, monkeypatch)[0] == 0
    moved = path.rename(tmp_path / "sent by a friend.png")
    root = str(runs["gan"].parent.parent)
    code, lines = call(["identify", str(moved), "--root", root], capsys, monkeypatch)
    assert code == 0
    assert len(lines) == 2, lines
    program, *again = shlex.split(lines[-1])
    assert program == "gan-lab"
    assert call([*again, "--out", "again.png"], capsys, monkeypatch)[0] == 0
    assert (tmp_path / "again.png").read_bytes() == moved.read_bytes()


def test_identify_directions_are_drawn_again_into_another_folder(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["directions", str(runs["gan"]), "--count", "1", "-n", "150", "--steps", "3"]
    words += ["--span", "1.5", "--seed", "4", "--labels", "none", "--folder", "first"]
    assert call(words, capsys, monkeypatch)[0] == 0
    moved = Path("first/directions.png").rename("x.png")
    root = str(runs["gan"].parent.parent)
    _, lines = call(["identify", "x.png", "--root", root], capsys, monkeypatch)
    _, *again = shlex.split(lines[-1])
    assert call(again, capsys, monkeypatch)[0] == 0
    assert Path("OUT/directions.png").read_bytes() == moved.read_bytes()


def test_identify_says_that_directions_have_changed(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another search stores other directions under the same names, and draws another image."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(runs["gan"], tmp_path / "runs" / "gan" / "r")
    words = ["sample", str(run), "-n", "1", "--move", "pc2=3", "--out", "x.png"]
    assert call(words, capsys, monkeypatch)[0] == 0
    assert len(call(["identify", "x.png"], capsys, monkeypatch)[1]) == 2
    find_directions(run, count=2, n=300, seed=1, labels="none").save(run / "directions.json")
    _, lines = call(["identify", "x.png"], capsys, monkeypatch)
    assert "directions pc2 in runs/gan/r/directions.json have changed since" in lines[-2]
    (run / "directions.json").unlink()
    _, lines = call(["identify", "x.png"], capsys, monkeypatch)
    assert "were not found: runs/gan/r/directions.json" in lines[-2]


@pytest.mark.parametrize("label", ["", "--class 4"])
def test_identify_image_of_a_folder_is_drawn_again(
    label: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image of a folder, whose command need not draw those after it."""
    monkeypatch.chdir(tmp_path)
    words = ["sample", str(runs["cgan"]), "-n", "4", "--seed", "2", *label.split()]
    assert call([*words, "--folder", "many"], capsys, monkeypatch)[0] == 0
    (third,) = Path("many").glob("00002-*")
    moved = third.rename("x.png")
    root = str(runs["gan"].parent.parent)
    _, lines = call(["identify", "x.png", "--root", root], capsys, monkeypatch)
    _, *again = shlex.split(lines[-1])
    assert again[again.index("--n") + 1] == "3"
    assert call(again, capsys, monkeypatch)[0] == 0
    assert (Path("OUT") / third.name).read_bytes() == moved.read_bytes()


def test_identify_translation_is_translated_again(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    noise(28, 28).save("photos/my photo.png")
    words = ["translate", str(runs["pix2pix"]), "photos", "out"]
    assert call(words, capsys, monkeypatch)[0] == 0
    root = str(runs["gan"].parent.parent)
    _, lines = call(["identify", "out/my photo.png", "--root", root], capsys, monkeypatch)
    assert "translated from my photo.png, AtoB" in lines[0]
    monkeypatch.chdir(tmp_path / "photos")
    _, *again = shlex.split(lines[-1])
    assert call(again, capsys, monkeypatch)[0] == 0
    assert Path("OUT/my photo.png").read_bytes() == (tmp_path / "out/my photo.png").read_bytes()


def test_identify_finds_checkpoint_export_and_changed_weights(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are compared, not names: a resumed run has another best checkpoint."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(runs["gan"], tmp_path / "runs" / "gan" / "r")
    assert call(["sample", str(run), "-n", "1"], capsys, monkeypatch)[0] == 0
    picture = str(run / "sample-n1-seed0.png")
    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.rename(tmp_path / "old.ckpt")
    shutil.copy(last, best)
    shutil.move(tmp_path / "old.ckpt", last)
    _, lines = call(["identify", picture], capsys, monkeypatch)
    assert lines[-1] == "gan-lab sample runs/gan/r --n 1 --seed 0 --weights last"
    shutil.copy(best, last)
    _, lines = call(["identify", picture], capsys, monkeypatch)
    assert "have changed since: images will differ" in lines[-2]
    # an export has the weights of its run
    model = export(runs["gan"], tmp_path / "model")
    assert (
        call(["sample", str(model), "-n", "1", "--out", "model/x.png"], capsys, monkeypatch)[0] == 0
    )
    _, lines = call(["identify", "model/x.png"], capsys, monkeypatch)
    assert lines[-1] == "gan-lab sample model --n 1 --seed 0"
    assert (
        call(["sample", str(runs["gan"]), "-n", "1", "--out", "y.png"], capsys, monkeypatch)[0] == 0
    )
    same = [provenance.read_record(path) or {} for path in ("model/x.png", "y.png")]
    assert same[0]["digest"] == same[1]["digest"]


def test_identify_foreign_files_is_one_line(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise().save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    noise().save(tmp_path / "photo.jpg")
    for name in ("photo.png", "text.png", "photo.jpg", "missing.png"):
        code, lines = call(["identify", str(tmp_path / name)], capsys, monkeypatch)
        assert (code, len(lines)) == (2, 1)
        assert lines[0].startswith("error: ")


@pytest.mark.parametrize(
    "values",
    [
        {"output": "samples", "n": 1, "seed": 0, "run": "x; rm -rf ~", "class": "$(rm -rf ~)"},
        {"output": "samples", "n": "1; rm", "seed": [], "run": {}, "class": 7, "truncation": "x"},
        {"output": "\x1b]0;title\x07", "run": "../../../../etc", "digest": "0", "n": 2**70},
        {"output": "translation", "source": "--overwrite", "direction": "x\ny"},
        {"output": "samples", "n": True, "seed": -1, "run": "/etc", "weights": None},
    ],
)
def test_identify_hostile_record_prints_quoted_text(
    values: dict[str, Any], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone can write a record, and a user may paste the command."""
    provenance.save_png(noise(), tmp_path / "x.png", values)
    code, lines = call(["identify", str(tmp_path / "x.png")], capsys, monkeypatch)
    assert code == 0
    assert all(line.isprintable() for line in lines)
    words = shlex.split(lines[-1])
    if words[0] == "gan-lab":
        assert words[2] in ("RUN", values.get("run"))
        assert all(word.isdecimal() for name, word in pairwise(words) if name in ("--n", "--seed"))
        assert "--overwrite" not in words


def test_copies_among_photos_are_no_data_without_manifest(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples copied between photos, also under other names; a photo edited from one is a photo."""
    photos = tmp_path / "photos"
    words = ["sample", str(runs["gan"]), "-n", "3", "--folder", str(photos)]
    assert call(words, capsys, monkeypatch)[0] == 0
    (photos / MANIFEST_NAME).unlink()
    made = sorted(photos.glob("*.png"))
    made[0].rename(photos / "holiday.PNG")
    assert len(image_files.find_images(photos)) == 3  # alone they are the data
    with Image.open(made[1]) as picture:
        size, mode = picture.size, picture.mode
        picture.rotate(90).save(made[1])
    for i in range(4):
        noise(seed=i).convert(mode).resize(size).save(photos / f"{i}.png")
    with pytest.warns(UserWarning, match=r"2 written by gan-lab"):
        found = image_files.find_images(photos)
    assert {path.name for path in found} == {made[1].name, "0.png", "1.png", "2.png", "3.png"}
    with pytest.warns(UserWarning, match=r"2 written by gan-lab"):
        assert sum(map(len, ImageSet(photos, "reals", 4, False))) == 5
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.write(path, path.name)
    with pytest.warns(UserWarning, match=r"2 written by gan-lab"):
        assert sum(map(len, ImageSet(tmp_path / "photos.zip", "reals", 4, False))) == 5
    assert sum(map(len, ImageSet(tmp_path / "photos.zip", "fakes", 4, False))) == 7


def test_record_survives_other_chunks_and_damage(tmp_path: Path) -> None:
    """Chunks of other programs may precede it; a truncated file has none."""
    path = tmp_path / "x.png"
    provenance.save_png(noise(), path, {"output": "samples", "class": "ä 猫"})
    content = path.read_bytes()
    extra = b"\0\0\0\x05tEXtAbc\0x" + b"crc!" + b"\0\x01\0\0eXIf" + bytes(65536) + b"crc!"
    path.write_bytes(content[:33] + extra + content[33:])
    record = provenance.read_record(path)
    assert record is not None
    assert record["class"] == "ä 猫"
    for end in (4, 20, 40, 60):
        path.write_bytes(content[:end])
        assert provenance.read_record(path) is None
    damaged = content.replace(json.dumps("samples").encode(), b'"sam\xffles"').replace(b"{", b"[")
    path.write_bytes(damaged)
    assert provenance.read_record(path) is None


def test_records_of_samples_have_no_path(runs: dict[str, Path]) -> None:
    """A shared image does not say where the run is."""
    assert load_generator(runs["gan"]).record["run"] == "gan/gan"
