"""Commands on an existing run: reconstruct, interpolate, walk; each mistake in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lab import data as datasets
from gan_lab import load_generator, networks
from gan_lab.config import loading, plain_yaml
from gan_lab.config.schema import with_values
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import to_uint8
from gan_lab.inference import autoencoding
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder, to_dict
from gan_lab.training import builder
from gan_lab.utils.files import write_text
from tests.helpers.folders import run_folder
from tests.helpers.pictures import flat
from tests.integration.test_cli import answer

FAMILIES = ("gan", "cgan", "pix2pix", "vaegan")


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, data_root: Path, sample: ArrayDataset
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {family: run_folder(family, root, data_root) for family in FAMILIES}


def cells(path: Path, columns: int, count: int) -> Tensor:
    """The first images of 28 x 28 of a grid, gray, as pixels [count, 28, 28]."""
    with Image.open(path) as opened:
        picture = np.asarray(opened)[..., 0]
    made = []
    for i in range(count):
        top, left = 2 + i // columns * 30, 2 + i % columns * 30
        made.append(picture[top : top + 28, left : left + 28])
    assert picture.shape[1] == 2 + 30 * min(columns, count)
    return torch.from_numpy(np.stack(made))


def parts(folder: Path, n: int) -> tuple[Tensor, Tensor, torch.nn.Module]:
    """Held-out images, their means by the averaged encoder, and the averaged generator."""
    data = Run(folder).restore(weights=None).data
    content = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    made = {
        name: networks.from_recipe(recipe).eval() for name, recipe in content["recipes"].items()
    }
    for name, network in made.items():
        network.load_state_dict(content["ema"][name])
    images = torch.cat([batch.images for batch in data.reference(n)])
    with torch.no_grad():
        mean, _ = made["encoder"](images)
    return images, mean, made["generator"]


def near(made: Tensor, images: Tensor) -> bool:
    """Whether pixels are those of images, but for a level that was rounded the other way."""
    return bool((made.int() - to_uint8(images).squeeze(1).int()).abs().max() <= 1)


def test_reconstructions_stand_beside_their_held_out_images(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    autoencoding.reconstruct(folders["vaegan"], 6, tmp_path / "made.png")
    images, mean, G = parts(folders["vaegan"], 6)
    made = cells(tmp_path / "made.png", 8, 12)
    with torch.no_grad():
        assert near(made[0::2], images)
        assert near(made[1::2], G(mean))
    assert not near(made[1::2], images)
    assert len(made[1::2].flatten(1).unique(dim=0)) == 6


def test_interpolations_are_linear_between_encoder_means(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    autoencoding.interpolate(folders["vaegan"], 3, 5, tmp_path / "made.png")
    _, mean, G = parts(folders["vaegan"], 4)
    made = cells(tmp_path / "made.png", 5, 15).unflatten(0, (3, 5))
    with torch.no_grad():
        for i in range(3):
            for step in range(5):
                z = mean[i : i + 1] + step / 4 * (mean[i + 1 : i + 2] - mean[i : i + 1])
                assert near(made[i, step : step + 1], G(z))
    assert torch.equal(made[0, -1], made[1, 0])
    assert not torch.equal(made[0, 0], made[0, -1])


@pytest.mark.parametrize(
    ("verb", "family", "options", "name"),
    [
        ("reconstruct", "vaegan", ["-n", "3"], "reconstruct-n3"),
        ("interpolate", "vaegan", ["-n", "2", "--steps", "3"], "interpolate-n2-steps3"),
        ("sample", "gan", ["-n", "8", "--interpolate", "4"], "walk4-n8-seed0"),
        ("sample", "cgan", ["-n", "4", "--label", "3"], "sample-n4-seed0-class3"),
    ],
)
def test_pictures_are_drawn_into_the_run_folder(
    verb: str, family: str, options: list[str], name: str, folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    code, error = answer(capsys, monkeypatch, verb, str(folders[family]), *options)
    assert (code, error) == (0, "")
    assert (folders[family] / f"{name}.png").is_file()


def test_the_command_line_draws_the_walks_of_the_generator(
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "walk.png"
    answer(capsys, monkeypatch, "sample", str(folders["cgan"]), "-n", "11", "--interpolate", "5",
           "--seed", "4", "--out", str(out))  # fmt: skip
    expected = load_generator(folders["cgan"]).walk(
        2, 5, seed=4
    )  # eleven images have room for two ways of five
    assert near(cells(out, 5, 10), expected)
    with Image.open(out) as picture:
        assert picture.size == (2 + 5 * 30, 2 + 2 * 30)


@pytest.mark.parametrize(
    ("family", "words", "expected"),
    [
        (
            "gan",
            ["translate", "RUN", "RUN", "out"],
            "Not an image-to-image generator: ",
        ),
        (
            "pix2pix",
            ["translate", "RUN", "RUN", "out", "--direction", "BtoA"],
            "No BtoA generator: ",
        ),
        (
            "pix2pix",
            ["translate", "RUN", "nowhere", "out"],
            "nowhere does not exist",
        ),
        ("pix2pix", ["sample", "RUN"], "Not a latent-to-image generator: "),
        ("gan", ["sample", "RUN", "--interpolate", "1"], "Use at least 1 walk and 2 steps"),
        (
            "gan",
            ["sample", "RUN", "--interpolate", "4", "--label", "2"],
            "Unconditional generator: label=",
        ),
        ("gan", ["reconstruct", "RUN"], "No encoder: "),
        ("cgan", ["interpolate", "RUN"], "No encoder: "),
        (
            "cgan",
            ["probe", "RUN"],
            "Labels are an input: the discriminator of ",
        ),
        (
            "gan",
            ["probe", "RUN", "--labels", "40"],
            "Too few labels for cross-validation: labels=40 of 10 classes",
        ),
        ("gan", ["probe", "RUN", "--weights", "newest"], "There is no checkpoint"),
        ("gan", ["probe", "nowhere"], "nowhere is not a run folder"),
        ("gan", ["reconstruct", "nowhere"], "nowhere is not a run folder"),
        ("gan", ["benchmark", "famlies"], "unknown table 'famlies'. Did you mean 'families'?"),
    ],
)
def test_invalid_arguments_are_one_line_and_write_nothing(
    family: str, words: list[str], expected: str, folders: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = folders[family]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.chdir(tmp_path)
    code, error = answer(
        capsys, monkeypatch, *(str(folder) if word == "RUN" else word for word in words)
    )
    assert (code, len(error.splitlines())) == (2, 1)
    assert expected in error
    assert not list(tmp_path.iterdir())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A run of cgan on a folder of cats and dogs, which lies in ``photos`` next to it."""
    for name, level in (("cat", 0), ("dog", 100)):
        for i in range(12):
            flat(tmp_path / "photos" / name / f"{i}.png", (level + i,) * 3)
    words = [
        "data.name=folder",
        f"data.root={tmp_path / 'photos'}",
        "data.source=auto",
        "data.size=28",
    ]
    return run_folder("cgan", tmp_path / "runs", tmp_path, *words)


def test_data_that_moved_are_named_and_other_data_refused(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"photos does not exist"):
        Run(pets).restore(weights=None)
    data = Run(pets).restore([f"data.root={tmp_path / 'elsewhere'}"], weights=None).data
    assert len(data.train) + len(data.validation) + len(data.test) == 24
    flat(tmp_path / "elsewhere" / "cat" / "3.png", (99,) * 3)
    with pytest.raises(ValueError, match=r"The data of .* have changed since it began"):
        Run(pets).restore([f"data.root={tmp_path / 'elsewhere'}"], weights=None)
    with pytest.raises(
        ValueError,
        match=r"run: data.size=8. Override only data.root, data.layout",
    ):
        Run(pets).restore(["data.size=8"], weights=None)


def test_the_words_of_a_place_reach_each_command(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("evaluate", "probe", "reconstruct", "interpolate"):
        code, error = answer(capsys, monkeypatch, command, str(pets), "data.root=nowhere")
        assert (code, error) == (
            2,
            "error: data.root=nowhere does not exist. Set it to a folder or a zip file.",
        )


def test_classes_have_the_names_of_the_data_or_the_user(pets: Path, tmp_path: Path) -> None:
    loaded = loading.load(
        "cgan",
        [
            "data.name=folder",
            f"data.root={tmp_path / 'photos'}",
            "data.size=28",
            "log.wandb=off",
            "metrics.allow_small_n=true",
            "log.progress_bar=false",
        ],
    )
    built = builder.build(*builder.load_data(loaded.config), RunFolder(tmp_path / "run"))
    assert built.config.data.class_names == ["cat", "dog"]
    write_text(pets / "config.yaml", plain_yaml.write(to_dict(built.config)))
    generator = load_generator(pets)
    assert torch.equal(generator(3, label="dog"), generator(3, label=1))
    assert torch.equal(generator(2, label=["dog", 0]), generator(2, label=[1, 0]))
    assert torch.equal(generator(3, label="1"), generator(3, label=1))
    with pytest.raises(
        ValueError, match=r"unknown class 'dgo'. Did you mean 'dog'\? Available: cat, dog"
    ):
        generator(1, label="dgo")
    renamed = with_values(loaded.config, {"data.class_names": ["Katze", "Hund"]})
    assert datasets.load(renamed.data, 0).class_names == ["Katze", "Hund"]
    renamed = with_values(loaded.config, {"data.class_names": ["one"]})
    with pytest.raises(
        ValueError, match=r"data.class_names=one has 1 names, but the data set has 2 classes"
    ):
        datasets.load(renamed.data, 0)


@pytest.mark.parametrize(
    ("words", "repeats", "remedies"),
    [
        ("gan data.images=50", "50 training images 32 times", "fewer run.images, augment=ada"),
        ("gan data.images=50 augment=ada", "50 training images 32 times", "fewer run.images"),
        # sources of a translator cannot be augmented
        ("inpaint data.images=50", "50 training images 32 times", "fewer run.images"),
        ("gan data.images=1_000", "1,000 training images 1.6 times", ""),
        ("ring", "", ""),
    ],
)
def test_first_lines_say_how_often_each_image_is_seen(
    words: str, repeats: str, remedies: str, data_root: Path
) -> None:
    """Few images that are seen often are memorized; points have no end."""
    experiment, *overrides = words.split()
    if experiment != "ring":
        overrides += ["data.name=mnist", f"data.root={data_root}", "data.source=sample"]
    overrides += ["data.batch_size=16", "run.images=1_600"]
    config, data = builder.load_data(loading.load(experiment, overrides).config)
    notes = builder.explain_budget(config, builder.build_family(config, data), data)
    expected = [f"1,600 images in all: each of {repeats}"] if repeats else []
    if remedies:
        few = repeats.partition(" images")[0]
        expected.append(
            f"{few} images are few: the model may memorize them. Try more images, {remedies}"
        )
    assert notes == expected
