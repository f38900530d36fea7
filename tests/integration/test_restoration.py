"""Runs that fill holes or enlarge images: translation, export and page, with their inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.config.schema import DataConfig
from gan_lab.degradations import Degradation, cut_hole, upsample
from gan_lab.images import save_grid, to_uint8, to_unit
from gan_lab.inference.export import export
from gan_lab.inference.translation import TrainedTranslator, translate
from gan_lab.report import run_page
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.utils.errors import UserError
from tests.helpers.browser import needs_chromium, started
from tests.helpers.folders import run_folder

browser = pytest.fixture(started, scope="module")
FACTOR = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("restored")
    words = {
        "mask": ["data.degradation=mask", "model.output=fill"],
        "downsample": [
            "data.degradation=downsample",
            f"data.downsample_factor={FACTOR}",
            "model.output=residual",
        ],
    }
    return {
        kind: run_folder("pix2pix", root / kind, data_root, *more) for kind, more in words.items()
    }


def photo(path: Path, height: int, width: int, seed: int = 0) -> Tensor:
    """Write a gray photo without the gray of holes; return it in [-1, 1], [1, 1, H, W]."""
    draws = np.random.default_rng(seed)
    pixels = draws.integers(100, size=(height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return to_unit(torch.from_numpy(pixels)[None, None])


def read(path: Path) -> Tensor:
    """Read a gray image, uint8 [1, 1, H, W]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("L")))[None, None]


def generate(folder: Path, sources: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = load_ema_networks(folder).networks["generator"](sources)
    return made


def test_translate_fills_the_white_pixels_of_a_mask_alone(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    image = photo(tmp_path / "photo.png", 28, 28)
    mask = np.zeros((28, 28), np.uint8)
    mask[3:20, 5:11] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ["translate", str(folders["mask"]), str(tmp_path / "photo.png"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--mask", str(tmp_path / "mask.png")])
    assert result.exit_code == 0, result.output
    made = read(tmp_path / "out" / "photo.png")
    hole = torch.from_numpy(mask > 0)[None, None]
    assert torch.equal(made, to_uint8(generate(folders["mask"], cut_hole(image, hole))))
    assert torch.equal(made[~hole], to_uint8(image)[~hole])
    assert (made[hole] != to_uint8(image)[hole]).float().mean() > 0.5
    with Image.open(tmp_path / "out" / "photo.png") as picture:
        record = json.loads(picture.text["gan-lab"])  # type: ignore[attr-defined]
    assert record["mask"] == "mask.png"


def test_transparent_pixels_of_a_mask_are_not_painted(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """A layer of a paint program: white strokes on nothing are the mask of white on black."""
    photo(tmp_path / "photo.png", 28, 28)
    layer = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    layer.paste((255, 255, 255, 255), (4, 4, 10, 12))
    layer.save(tmp_path / "layer.png")
    plain = Image.new("L", (28, 28))
    plain.paste(255, (4, 4, 10, 12))
    plain.save(tmp_path / "plain.png")
    filled = []
    for name in ("layer", "plain"):
        out = tmp_path / f"out-{name}"
        translate(folders["mask"], tmp_path / "photo.png", out, mask=tmp_path / f"{name}.png")
        with Image.open(out / "photo.png") as image:
            filled.append(image.tobytes())
    assert filled[0] == filled[1]


def test_translate_names_what_is_wrong_with_a_mask(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "photo.png"
    photo(source, 28, 28)
    small = Image.new("L", (9, 9), 255)
    small.putpixel((0, 0), 0)
    small.save(tmp_path / "small.png")
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    Image.new("L", (28, 28), 255).save(tmp_path / "white.png")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"fills holes, but there is no mask\. Pass --mask FILE"):
        translate(folders["mask"], source, out)
    with pytest.raises(UserError, match="does not fill holes"):
        translate(folders["downsample"], source, out, mask=tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small\.png has 9 x 9 pixels, but .* has 28 x 28\. Pass"):
        translate(folders["mask"], source, out, mask=tmp_path / "small.png")
    with pytest.raises(UserError, match=r"black\.png has no white pixels"):
        translate(folders["mask"], source, out, mask=tmp_path / "black.png")
    with pytest.raises(UserError, match=r"white\.png is white everywhere"):
        translate(folders["mask"], source, out, mask=tmp_path / "white.png")
    with pytest.raises(UserError, match=r"none\.png cannot be read"):
        translate(folders["mask"], source, out, mask=tmp_path / "none.png")
    assert not out.exists() or not list(out.iterdir())


def test_translate_enlarges_small_images_as_in_training(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    image = photo(tmp_path / "small.png", 14, 18)
    assert translate(folders["downsample"], tmp_path / "small.png", tmp_path / "out") == (1, 0)
    made = read(tmp_path / "out" / "small.png")
    assert made.shape == (1, 1, 28, 36)
    translator = TrainedTranslator(folders["downsample"])
    assert torch.equal(made, to_uint8(translator(image)))
    square = image[..., :14]
    # the network sees what it is trained on
    sources = upsample(square, FACTOR)
    assert torch.equal(translator(square), generate(folders["downsample"], sources))


@pytest.mark.parametrize("kind", ["mask", "downsample"])
def test_export_translates_as_its_run(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    image = photo(tmp_path / "photo.png", 14, 14)
    out = export(folders[kind], tmp_path / "model")
    hole = torch.zeros(1, 1, 14, 14, dtype=torch.bool)
    hole[..., 2:9, 3:7] = True
    own, exported = TrainedTranslator(folders[kind]), TrainedTranslator(out)
    assert torch.equal(own(image, hole), exported(image, hole))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert {"mask": "is a mask: 1", "downsample": "enlarged 2 times"}[kind] in card
    config = json.loads((out / "config.json").read_text())
    assert config["networks"]["generator"]["inputs"]["image"][0] == 1 + (kind == "mask")


@pytest.mark.parametrize("record", [None, "mask", {"kind": "burn"}, {"kind": ["mask"]}])
def test_export_with_an_unknown_degradation_has_none(record: object) -> None:
    assert Degradation.from_record(record) == Degradation()
    for factor in (True, 10**9, "4", 1, None):
        made = Degradation.from_record({"kind": "downsample", "factor": factor})
        assert made == Degradation.from_config(DataConfig(degradation="downsample"))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens the page of a run; no error is thrown or said on the console."""
    faults: list[str] = []
    context = browser.new_context()

    def load(path: Path) -> Any:
        tab = context.new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(path.as_uri())
        wait(tab)
        return tab

    yield load
    context.close()
    assert faults == []


def wait(tab: Any) -> None:
    tab.wait_for_selector("#live[aria-busy=false]", state="attached")


def pixels(tab: Any, selector: str) -> np.ndarray:
    """The red channel of a canvas, [H, W]."""
    script = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    canvas = tab.locator(selector).first
    side = canvas.evaluate("c => [c.height, c.width]")
    return np.array(canvas.evaluate(script)).reshape(*side, 4)[..., 0]


def choose(tab: Any, path: Path, first: int) -> None:
    """Choose a file, and wait until its first pixel is shown."""
    tab.locator("#live-file").set_input_files(path)
    for _ in range(400):
        if pixels(tab, "#live-input")[0, 0] == first:
            break
        tab.wait_for_timeout(5)
    wait(tab)


@needs_chromium
def test_page_fills_the_hole_that_is_painted(
    folders: dict[str, Path], tmp_path: Path, opened: Any
) -> None:
    tab = opened(run_page.write([folders["mask"]], tmp_path / "page.html"))
    image = photo(tmp_path / "photo.png", 28, 28)
    known = to_uint8(image)[0, 0].numpy().astype(int)
    translator = TrainedTranslator(folders["mask"])

    def check() -> int:
        """Compare the page with the lab; return the size of the hole."""
        wait(tab)
        hole = pixels(tab, "#live-input") != known
        expected = to_uint8(translator(image, torch.from_numpy(hole)[None, None]))[0, 0].numpy()
        assert np.abs(pixels(tab, "canvas.made") - expected).max() <= 1
        return int(hole.sum())

    choose(tab, tmp_path / "photo.png", int(known[0, 0]))
    assert check() == 14 * 14
    box = tab.locator("#live-input").bounding_box()
    tab.mouse.move(box["x"] + 5, box["y"] + 5)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 5, box["y"] + 5, steps=4)
    tab.mouse.up()
    assert check() > 14 * 14 + 28
    tab.get_by_role("button", name="Remove the holes").click()
    assert check() == 0


@needs_chromium
def test_page_enlarges_a_small_image_as_the_lab(
    folders: dict[str, Path], tmp_path: Path, opened: Any
) -> None:
    tab = opened(run_page.write([folders["downsample"]], tmp_path / "page.html"))
    image = photo(tmp_path / "small.png", 28 // FACTOR, 28 // FACTOR)
    sources = to_uint8(upsample(image, FACTOR))[0, 0].numpy().astype(int)
    choose(tab, tmp_path / "small.png", int(sources[0, 0]))
    # the page shows the input with 8 bits, and reads it back
    assert np.abs(pixels(tab, "#live-input") - sources).max() <= 1
    expected = to_uint8(TrainedTranslator(folders["downsample"])(image))[0, 0].numpy()
    assert np.abs(pixels(tab, "canvas.made") - expected).max() <= 3


@needs_chromium
def test_columns_of_the_grid_have_titles(folders: dict[str, Path], opened: Any) -> None:
    """Each title is above its column; the grid is that of a training."""
    folder = folders["mask"]
    record = {"output": "training grid", "columns": 6, "tile": [28, 28]}
    record |= {"sets": ["real", "reconstructed", "real"]}
    grid = folder / "samples" / "000000000.png"
    save_grid(torch.zeros(12, 1, 28, 28), 6, grid, record=record)
    tab = opened(run_page.write([folder]))
    titles = tab.locator(".titles span")
    assert titles.all_text_contents() == ["input", "output", "truth"] * 2
    box = tab.locator("#grid").bounding_box()
    for i, title in enumerate(titles.all()):
        place = title.bounding_box()
        middle = place["x"] + place["width"] / 2
        assert box["width"] * i / 6 < middle - box["x"] < box["width"] * (i + 1) / 6
        assert place["y"] + place["height"] <= box["y"]
    caption = tab.locator("figcaption").first.text_content()
    assert "the image with a hole of 25% (box)" in caption
    # without real images, columns are left out
    text, _ = run_page.render_site(folder)
    assert 'class="titles"' not in text
