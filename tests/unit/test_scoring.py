"""Scores of image sets: equal for every kind of input and to those of a run; clear errors."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gan_lab import cli, seeding
from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig, MetricsConfig
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.base import Setting
from gan_lab.metrics.evaluator import Evaluator
from gan_lab.metrics.extractors import inception
from gan_lab.metrics.extractors.digits import Digits
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.metrics.frechet import frechet_distance, moments
from gan_lab.metrics.image_sets import ImageSet
from gan_lab.scoring import Scores, score
from gan_lab.utils.errors import UserError
from tests.helpers.pictures import smooth_noise

ALL = ["fid", "kid", "prdc"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of twelve fakes and fourteen reals."""
    smooth_noise(tmp_path / "fakes", 1, 12, 16)
    smooth_noise(tmp_path / "reals", 0, 14, 16)
    return tmp_path / "fakes", tmp_path / "reals"


def values(scores: Scores) -> dict[str, float]:
    return {name: each.value for name, each in scores.items()}


class Pairs(Dataset[tuple[Image.Image, int]]):
    """A data set of PIL images with labels, as torchvision's without a transform."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[row]), 0


def every_kind(folder: Path, pixels: Tensor) -> Iterator[tuple[str, Any]]:
    """The same images in every form that is accepted."""
    channels_last = pixels.permute(0, 2, 3, 1).numpy()
    nested = folder / "nested"
    for i, image in enumerate(channels_last):
        (nested / f"{i // 5}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(nested / f"{i // 5}" / f"{i:03d}.png")
    yield "nested folder", nested
    yield "path as a string", str(nested)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted(nested.rglob("*.png"), reverse=True):
            archive.write(path, path.relative_to(folder))
        archive.writestr("readme.txt", "not an image")
        archive.writestr("__MACOSX/._000.png", "not an image either")
    yield "zip", folder / "images.zip"
    np.savez(folder / "first.npz", channels_last)
    yield "npz of one array", folder / "first.npz"
    np.savez(folder / "named.npz", labels=np.zeros(len(pixels)), images=pixels.numpy())
    yield "npz with images", folder / "named.npz"
    np.savez(folder / "other.npz", samples=pixels.numpy())
    yield "npz of another name", folder / "other.npz"
    np.save(folder / "images.npy", pixels.numpy())
    yield "npy", folder / "images.npy"
    yield "array, channels first", pixels.numpy()
    yield "array, channels last", channels_last
    yield "tensor", pixels
    yield "floats in [0, 1]", pixels / 255
    yield (
        "loader of tuples",
        DataLoader(TensorDataset(pixels, torch.zeros(len(pixels))), batch_size=5),
    )
    yield "loader of images", DataLoader(list(pixels / 255), batch_size=4)  # type: ignore[arg-type]
    yield "data set of tuples", TensorDataset(pixels, torch.zeros(len(pixels)))
    yield "data set of PIL images", Pairs(channels_last)
    yield "list of PIL images", [Image.fromarray(image) for image in channels_last]
    yield "generator of batches", (Batch(part) for part in pixels.split(3))


def test_every_kind_of_input_gives_the_same_values(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    fakes, reals = folders
    expected = values(score(fakes, reals, ALL, "random", batch_size=8))
    assert set(expected) == {
        "fd_random",
        "kd_random",
        *(f"{share}_random" for share in ("precision", "recall", "density", "coverage")),
    }
    assert expected["fd_random"] > 0.001
    pixels = torch.stack(
        [torch.from_numpy(np.array(Image.open(path))) for path in sorted(fakes.glob("*.png"))]
    )
    for name, source in every_kind(tmp_path, pixels.permute(0, 3, 1, 2).contiguous()):
        found = values(score(source, reals, ALL, "random", batch_size=8, normalize=True))
        assert found == expected, name


def test_gray_arrays_without_channels_are_accepted() -> None:
    gray = np.random.default_rng(0).integers(256, size=(12, 28, 28), dtype=np.uint8)
    scores = score(gray, gray[:, None], ["fid"], "digits")
    assert scores["fd_digits"].protocol["shape"] == [1, 28, 28]
    assert scores["fd_digits"].value < 1e-6


def test_scores_equal_those_of_a_runs_evaluator(data_root: Path) -> None:
    served = datasets.load(DataConfig(source="sample", root=str(data_root)), 0)
    made: list[Tensor] = []

    class Noise(nn.Module):
        output_names = ("generated",)
        device, dtype = torch.device("cpu"), torch.float32

        def outputs(self, batch: Batch, stream: seeding.Stream) -> dict[str, Tensor]:
            return {"generated": self.generate(batch, stream)}

        def generate(self, batch: Batch, stream: seeding.Stream) -> Tensor:
            made.append(stream.uniform(len(batch.images), 1, 28, 28, like=batch.images) * 2 - 1)
            return made[-1]

    setting = Setting(served.spec, MetricsConfig(), split="test", reals=130, fakes=170)
    metric = FeatureScores(Digits(), False, 10_000, final=True)
    family: Any = Noise()
    expected = Evaluator(served, [metric], setting, seed=0, shared=False)(family)
    reals = torch.cat([to_uint8(batch.images) for batch in served.reference(130)])
    scores = score(to_uint8(torch.cat(made)), reals, [*ALL, "is"], "digits")
    assert len(scores) == 7
    for name, each in scores.items():
        assert each.value == pytest.approx(expected[name], rel=1e-6), name
    assert scores["kd_digits"].spread == pytest.approx(expected["kd_digits_sd"], rel=1e-6)
    protocol = metric.protocol("kd_digits", 130)
    assert scores["kd_digits"].protocol.items() >= protocol.items()
    assert (scores["fd_digits"].protocol["reals"], scores["fd_digits"].protocol["fakes"]) == (
        130,
        170,
    )


def test_reference_compares_halves_of_reals(
    folders: tuple[Path, Path],
) -> None:
    """The real-vs-real reference compares one half of the reals with the other."""
    scores = score(*folders, ALL, "random", batch_size=5)
    paths = sorted(folders[1].glob("*.png"))
    extractor = FeatureScores(_random(), False, 100, True).extractor
    pixels = torch.stack(
        [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths]
    )
    even, odd = (extractor(pixels[start::2])[0] for start in (0, 1))
    expected = frechet_distance(moments(even), moments(odd))
    assert scores["fd_random"].reference == pytest.approx(expected, rel=1e-4)
    assert scores["fd_random"].protocol["floor"] == scores["fd_random"].reference
    assert (
        scores["fd_random"].protocol["floor_images"]
        == "two halves of the reals, every second image: 7 against 7"
    )
    assert score(*folders, ["fid"], "random", reference=False)["fd_random"].reference is None


def _random() -> Any:
    from gan_lab.metrics.extractors.random import Random

    return Random()


def test_reference_of_inception_score_uses_all_reals() -> None:
    """The reference of an inception score uses all reals."""
    generator = torch.Generator().manual_seed(0)
    fakes, reals = (
        torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator) for n in (12, 20)
    )
    scores = score(fakes, reals, ["is"], "digits")
    alone = score(reals, fakes, ["is"], "digits")
    assert scores["digit_score"].reference == alone["digit_score"].value
    assert scores["digit_score"].protocol["floor_images"] == "all 20 reals"


def test_images_scored_against_themselves_have_the_best_values(folders: tuple[Path, Path]) -> None:
    scores = values(score(folders[1], folders[1], ALL, "random"))
    assert scores["fd_random"] < 1e-6
    assert [scores[f"{name}_random"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_few_images_skip_scores_with_note(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Scores that need more images are skipped with a note."""
    scores = score(*folders, ALL, "random")
    assert scores["fd_random"].note.startswith(
        "fd_random: 12 images are fewer than 10 per feature (64 features)"
    )
    assert scores["fd_random"].note in caplog.messages
    few = torch.randint(
        256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    scores = score(few, folders_pixels(folders[1], 8), ALL, "random")
    assert list(scores) == ["fd_random"]
    assert scores.notes == ["Skipping kid, prdc: 3 fakes and 14 reals are too few."]
    with pytest.raises(UserError, match="Too few images for kid: 3 fakes and 3 reals"):
        score(few, few, ["kid"], "random")


def folders_pixels(folder: Path, size: int) -> Tensor:
    images = [Image.open(path).resize((size, size)) for path in sorted(folder.glob("*.png"))]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])


@pytest.fixture
def no_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "is_reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


@pytest.mark.usefixtures("no_inception")
def test_missing_inception_weights_fall_back_to_lite0(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Without Inception weights, lite0 computes scores under its own name."""
    scores = score(*folders, ["kid", "is"])
    assert list(scores) == ["kd_lite0"]
    assert scores["kd_lite0"].protocol["extractor"] == "lite0"
    fallback, skipped = scores.notes
    assert fallback.startswith(
        "Using the extractor lite0 (fd_lite0, not fid): the Inception weights are not on this"
    )
    assert "https://" in fallback
    assert "--weights FILE" in fallback
    assert "\n" not in fallback
    assert skipped.startswith("Skipping is: the extractor lite0 has no class logits")
    assert [fallback, skipped] == caplog.messages
    with pytest.raises(
        UserError, match=r"The extractor inception is not available: .*--weights FILE"
    ):
        score(*folders, ["fid"], "inception")
    with pytest.raises(UserError, match="is needs class logits"):
        score(*folders, ["is"])


def test_a_module_is_an_extractor(folders: tuple[Path, Path]) -> None:
    class Mean(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.double().mean(dim=(2, 3))

    scores = score(*folders, ["fid"], Mean())
    means = [folders_pixels(folder, 16).double().mean(dim=(2, 3)) for folder in folders]
    expected = frechet_distance(moments(means[1]), moments(means[0]))
    assert scores["fd_custom"].value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("one image", r"Too few fakes: 1 \(.*one\)\. Pass at least 2"),
        ("no folder", r"The fakes do not exist: .*nowhere"),
        ("empty folder", r"The fakes folder has no images: .* contains no files"),
        ("sizes in a folder",
         r"The fakes differ in size: .*b\.png is \[3, 8, 9\], .*a\.png is \[3, 8, 8\]"),
        ("sizes in a list",
         r"The fakes differ in size: image 2 is \[3, 8, 9\], image 0 is \[3, 8, 8\]"),
        ("sizes of the sets", r"Fakes and reals differ in size: \[8, 8\] and \[16, 16\]"),
        ("empty zip", r"The fakes file has no images: .*empty\.zip"),
        ("broken zip",
         r"The fakes cannot be read: .*broken\.zip is not a zip file\. Pass a folder"),
        ("unreadable file",
         r"The fakes contain an unreadable image: .*b\.png \(cannot identify image file\)"),
        ("unreadable in a zip",
         r"The fakes contain an unreadable image: .*bad\.zip: b\.png \(cannot identify"),
        ("broken npz", r"The fakes cannot be read: .*broken\.npz"),
        ("npz without arrays", r"The fakes file has no arrays: .*none\.npz"),
        ("text file", r"The fakes cannot be read: .*notes\.txt\. Pass a folder"),
        ("floats",
         r"The fakes cannot be used\. Images have the type torch\.float32, "
         r"whose range is ambiguous"),
        ("four channels", r"The fakes cannot be used\. Images have the shape \[4, 8, 8, 4\]"),
        ("number", r"The fakes are of the type int\. Pass a folder"),
        ("texts", r"The fakes contain str objects\. Pass a folder"),
        ("empty loader", r"Too few fakes: 0 \(builtins\.list\)"),
    ],
)  # fmt: skip
def test_invalid_images_are_one_line_error(
    case: str, expected: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Invalid images are a one-line error."""
    with pytest.raises(UserError, match=expected) as raised:
        score(bad_images(case, tmp_path), folders[1], ["fid"], "random")
    assert "\n" not in str(raised.value)


def bad_images(case: str, folder: Path) -> Any:
    """Fakes that cannot be scored."""

    def save(name: str, width: int = 8) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (width, 8), "red").save(path)
        return path.parent

    small = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    if case == "one image":
        return save("one/a.png")
    if case == "no folder":
        return folder / "nowhere"
    if case == "empty folder":
        (folder / "empty").mkdir()
        return folder / "empty"
    if case == "sizes in a folder":
        save("sizes/a.png")
        return save("sizes/b.png", width=9)
    if case == "sizes in a list":
        return [small[:2], torch.zeros(2, 3, 8, 9, dtype=torch.uint8)]
    if case == "unreadable file":
        (save("bad/a.png") / "b.png").write_text("no image")
        return folder / "bad"
    if case in ("empty zip", "unreadable in a zip"):
        path = folder / ("empty.zip" if case == "empty zip" else "bad.zip")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("b.txt" if case == "empty zip" else "b.png", "no image")
        return path
    if case == "npz without arrays":
        np.savez(folder / "none.npz")
        return folder / "none.npz"
    texts = {"broken zip": "broken.zip", "broken npz": "broken.npz", "text file": "notes.txt"}
    if case in texts:
        (folder / texts[case]).write_text("nothing of the kind")
        return folder / texts[case]
    others: dict[str, Any] = {
        "sizes of the sets": small,
        "floats": small.float(),
        "four channels": np.zeros((4, 8, 8, 4), dtype=np.uint8),
        "number": 7,
        "texts": ["a.png"],
        "empty loader": [],
    }
    return others[case]


def test_invalid_arguments_are_one_line_error(folders: tuple[Path, Path]) -> None:
    """Invalid metrics and extractors are a one-line error."""
    for metrics, extractor, expected in (
        (
            ["fdi"],
            "random",
            r"unknown metric 'fdi'\. Did you mean 'fid'\? Available: fid, kid, prdc, is",
        ),
        ([], "random", "No metrics to compute"),
        (["fid"], "lite", r"unknown extractor 'lite'\. Did you mean 'lite0'\?"),
    ):
        with pytest.raises(UserError, match=expected):
            score(*folders, metrics, extractor)
    with pytest.raises(UserError, match="batch_size=0 is out of range"):
        score(*folders, ["fid"], "random", batch_size=0)


def test_the_command_prints_a_table_and_writes_json(
    folders: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "deeper" / "scores.json"
    arguments = [
        "score",
        *map(str, folders),
        "--metrics",
        "fid, prdc",
        "--extractor",
        "random",
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["gan-lab", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    expected = score(*folders, ["fid", "prdc"], "random")
    assert "12 fakes against 14 reals, extractor random" in printed
    for name, each in expected.items():
        (line,) = (line for line in printed.splitlines() if f" {name} " in line)
        assert f"{each.value:.4g}" in line
        assert ("higher" if each.higher_is_better else "lower") in line
    stored = json.loads(out.read_text(encoding="utf-8"))["scores"]
    assert {name: entry["value"] for name, entry in stored.items()} == values(expected)
    assert stored["fd_random"]["protocol"]["fakes_source"] == str(folders[0])
    assert stored["fd_random"]["protocol"]["floor"] == expected["fd_random"].reference
    assert stored == expected.to_dict()["scores"]


def test_invalid_command_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid command prints one line and exits with code 2."""
    monkeypatch.setattr(
        sys,
        "argv",
        ["gan-lab", "score", str(tmp_path / "a"), str(tmp_path / "b"), "--extractor", "random"],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: The reals do not exist: {tmp_path}/b.")


def save_deep(folder: Path, peaks: list[int], archive: bool) -> tuple[Path, np.ndarray]:
    """Save 16-bit ramps up to each peak, after an 8-bit image; return them with 65535 as white."""
    folder.mkdir()
    gray = np.full((8, 8), 99, np.uint8)
    ramps = [np.linspace(0, peak, 64).reshape(8, 8).astype(np.uint16) for peak in peaks]
    for i, image in enumerate([gray, *ramps]):
        Image.fromarray(image).save(folder / f"{i}.png")
    scaled = np.array([gray, *(np.rint(ramp / 257).astype(np.uint8) for ramp in ramps)])
    expected = np.repeat(scaled[:, None], 3, axis=1)
    if not archive:
        return folder, expected
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)
    return folder.with_suffix(".zip"), expected


@pytest.mark.parametrize("archive", [False, True])
def test_deep_images_of_both_sets_have_one_scale(archive: bool, tmp_path: Path) -> None:
    """The white of the brighter set is that of the darker one, in a folder or a zip file."""
    fakes, fake_pixels = save_deep(tmp_path / "fakes", [900, 3000], archive)
    reals, real_pixels = save_deep(tmp_path / "reals", [60_000, 50_000], archive)
    expected = values(score(fake_pixels, real_pixels, ["fid"], "random"))
    assert values(score(fakes, reals, ["fid"], "random")) == expected


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_damaged_zip_of_images_is_one_line_error(method: int, tmp_path: Path) -> None:
    """Every method of compression has errors of its own."""
    path = tmp_path / "fakes.zip"
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.bmp")
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.write(tmp_path / "a.bmp", "a.bmp")
    content = bytearray(path.read_bytes())
    content[50:65] = bytes(15)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"The fakes cannot be read: .*fakes\.zip is damaged \("):
        list(ImageSet(path, "fakes", 10, False))
