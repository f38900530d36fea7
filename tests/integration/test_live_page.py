"""The networks in a run's page, in a real browser: outputs of the lab, working controls."""

from __future__ import annotations

import base64
import io
import itertools
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from playwright.sync_api import Error as PlaywrightError
from torch import Tensor

from gan_lab import load_generator, report
from gan_lab.config import loading
from gan_lab.images import save_grid, to_uint8, to_unit
from gan_lab.inference import identification
from gan_lab.inference.translation import TrainedTranslator
from gan_lab.networks import graph
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.report import embedding, live, run_page
from gan_lab.report.style_parts import MappingPart
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.directions import Direction, Directions
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.utils.provenance import read_record
from tests.helpers.browser import find_violations, needs_chromium, started
from tests.helpers.families import FAMILIES, every_family
from tests.helpers.folders import run_folder
from tests.helpers.reports import written_run

ENGINE = (
    (run_page.ASSETS / "engine.js")
    .read_text("utf-8")
    .replace("const engine =", "globalThis.engine =")
)
PIXELS = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
SET = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }"
FORBID_ADDRESSES = """
    const replace = history.replaceState.bind(history);
    history.replaceState = (state, unused, url) => {
        if (url) throw new DOMException("forbidden");
        replace(state, unused);
    };
"""
DECODE_FIRST_IMAGE_LATE = """() => {
    const Usual = Image, set = Object.getOwnPropertyDescriptor(Usual.prototype, "src").set;
    const delays = [200];
    window.Image = function () {
        const image = new Usual(), delay = delays.shift() ?? 0;
        Object.defineProperty(image, "src", {
            set: (uri) => setTimeout(() => set.call(image, uri), delay),
        });
        return image;
    };
}"""
SEEDS = 64
browser = pytest.fixture(started, scope="module")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    """A run of every family, narrow, with a grid whose first images can be its inputs."""
    root = tmp_path_factory.mktemp("live")
    made = {family: run_folder(family, root / family, data_root) for family in FAMILIES}
    draws = torch.Generator().manual_seed(0)
    for folder in made.values():
        save_grid(
            torch.rand((12, 1, 28, 28), generator=draws) * 2 - 1,
            6,
            folder / "samples" / "000000000.png",
        )
    return made


@pytest.fixture(scope="module")
def page_of(folders: dict[str, Path]) -> Callable[[str], Path]:
    """Return a function that writes the page of a family's run once: tracing takes a second."""
    return cache(lambda family: report.write([folders[family]]))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Open a page whose networks have answered; no console output, exceptions or requests."""
    faults: list[str] = []
    contexts = []

    def load(path: Path, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                faults.append(request.url)
                if not request.url.startswith(("data:", "blob:null/"))
                and request.url != path.as_uri()
                else None
            ),
        )
        tab.goto(path.as_uri())
        answered(tab)
        return tab

    yield load
    for context in contexts:
        context.close()
    assert faults == []


def answered(tab: Any) -> None:
    """Wait until what was asked last is shown."""
    tab.wait_for_selector("#live[aria-busy=false]", state="attached")


def wait_for_input(tab: Any, first: int) -> None:
    """Wait until the picture that was chosen is the input, by its first pixel."""
    for _ in range(400):
        if pixels(tab, "#live-input")[0, 0, 0] == first:
            return
        tab.wait_for_timeout(5)
    raise AssertionError(tab.locator("#said").text_content())


def pixels(tab: Any, selector: str = "canvas.made") -> np.ndarray:
    """The picture on a canvas, [H, W, 3]."""
    canvas = tab.locator(selector).first
    side = canvas.evaluate("c => [c.height, c.width]")
    return np.array(canvas.evaluate(PIXELS)).reshape(*side, 4)[..., :3]


def wall_of(tab: Any) -> list[np.ndarray]:
    """The sixteen samples, each [28, 28, 3]."""
    wall = tab.evaluate(f"[...document.querySelectorAll('.wall canvas')].map({PIXELS})")
    return [np.array(made).reshape(28, 28, 4)[..., :3] for made in wall]


def to_canvas(images: Tensor) -> np.ndarray:
    """What a canvas has of an image [1, C, H, W]."""
    return to_uint8(images)[0].expand(3, -1, -1).permute(1, 2, 0).numpy().astype(int)


@needs_chromium
def test_each_operation_is_torchs(browser: Any) -> None:
    """Every operation of the page, on shapes with strides, borders, groups and sides of one."""
    draws = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws)

    x, c = draw(2, 4, 7, 5), draw(4)
    cases: dict[str, list[tuple[Any, ...]]] = {
        "aten.add.Tensor": [(x, 1.5), (x, draw(2, 4, 1, 1)), (draw(4, 1, 1), x)],
        "aten.addcmul.default": [(x, draw(2, 4, 1, 1), x),
                                 (draw(2, 4, 1, 1), draw(1, 4, 7, 1), x)],
        "aten.batch_norm.default": [(x, c, c, c, c.abs(), False, 0.1, 1e-5, False),
                                    (x, None, None, c, c.abs(), False, 0.1, 1e-3, False)],
        "aten.cat.default": [([x, draw(2, 1, 7, 5)], 1), ([x, x], 0), ([x, x], -1)],
        "aten.clamp.default": [(x, -0.5, 0.25), (x, None, 0.1), (x, 0.1)],
        "aten.conv2d.default": [(x, draw(6, 4, 3, 3)),
                                (x, draw(6, 4, 3, 2), draw(6), [2, 1], [1, 2]),
                                (x, draw(6, 2, 3, 3), None, [1, 1], [1, 1], [1, 1], 2),
                                (x, draw(5, 4, 2, 2), None, [2, 2], [3, 3], [2, 3])],
        "aten.conv_transpose2d.input": [(x, draw(4, 3, 4, 4), None, [2, 2], [1, 1]),
                                        (x, draw(4, 3, 3, 3), draw(3), [3, 2], [1, 0], [2, 1]),
                                        (x, draw(4, 2, 5, 3), draw(4), [2, 2], [2, 1], [1, 1], 2),
                                        (x, draw(4, 3, 2, 2), None, [1, 1], [0, 0], [0, 0], 1,
                                         [2, 2])],
        "aten.group_norm.default": [(x, 2, c, c, 1e-5, False), (x, 1, None, None, 1e-3, False),
                                    (draw(3, 6), 3, None, None, 1e-5, False)],
        "aten.instance_norm.default": [(x, c, c, None, None, True, 0.1, 1e-5, False),
                                       (x, None, None, None, None, True, 0.1, 1e-5, False)],
        "aten.leaky_relu.default": [(x, 0.2), (x,)],
        "aten.linear.default": [(draw(3, 7), draw(5, 7), draw(5)),
                                (draw(2, 3, 7), draw(5, 7))],
        "aten.mean.dim": [(x, [1], True), (x, [-1]), (x, [0])],
        "aten.mul.Tensor": [(x, 2.0), (x, draw(4, 1, 1)), (x, draw(1, 1, 7, 1))],
        "aten.pad.default": [(x, [1, 2, 3, 0], "reflect"), (x, [1, 0, 2, 1]),
                             (x, [1, 1, 1, 1], "constant", 0.5)],
        "aten.permute.default": [(x, [0, 2, 3, 1]), (x, [3, 1, 0, 2])],
        "aten.relu.default": [(x,)],
        "aten.rsqrt.default": [(x.abs() + 0.1,)],
        "aten.select.int": [(x, 1, 2), (x, -1, -1), (x, 0, 1)],
        "aten.sigmoid.default": [(x,)],
        "aten.slice.Tensor": [(x, 1, 1, 3), (x, 0, 0, 2**63 - 1), (x, 3, -3, -1), (x, 2, 0, 7, 2)],
        "aten.sym_size.int": [(x, 0), (x, 2)],
        "aten.tanh.default": [(x,)],
        "aten.unsqueeze.default": [(x, 0), (x, 2), (x, -1)],
        "aten.upsample_bilinear2d.vec": [(x, None, False, [2.0, 2.0]), (x, [5, 9], False, None),
                                         (x, [9, 11], True, None)],
        "aten.upsample_nearest2d.vec": [(x, None, [2.0, 3.0]), (x, [5, 9], None)],
        "aten.view.default": [(x, [2, -1]), (x, [-1, 2, 7, 5])],
    }  # fmt: skip
    assert set(cases) == live.list_operations()
    tab = browser.new_page()
    tab.add_script_tag(content=ENGINE)

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return {"shape": list(value.shape), "data": value.flatten().tolist()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    ask = """([op, args]) => {
        const own = (x) => {
            if (Array.isArray(x)) return x.map(own);
            if (x && x.shape) return engine.tensor(x.shape, Float32Array.from(x.data));
            return x ?? undefined;
        };
        const result = engine.operations[op](...args.map(own));
        if (typeof result === "number") return result;
        return { shape: result.shape, data: [...result.data] };
    }"""
    for op, every in cases.items():
        namespace, name, overload = op.split(".")
        for args in every:
            expected = getattr(getattr(getattr(torch.ops, namespace), name), overload)(*args)
            result = tab.evaluate(ask, [op, [plain(arg) for arg in args]])
            if isinstance(expected, int):
                assert result == expected, op
                continue
            assert result["shape"] == list(expected.shape), op
            assert torch.allclose(
                torch.tensor(result["data"]), expected.flatten(), rtol=1e-4, atol=1e-5
            ), (
                op,
                args[1:],
            )
    tab.close()


@needs_chromium
@every_family
def test_the_page_makes_what_the_lab_makes(
    family: str,
    folders: dict[str, Path],
    page_of: Callable[[str], Path],
    tmp_path: Path,
    opened: Any,
) -> None:
    """Of 64 seeds, or of 8 pictures; within a gray level, and nearly always the same one."""
    recipes = {
        name: read_checkpoint(folders[name] / "checkpoints" / "best.ckpt")["recipes"]
        for name in FAMILIES
    }
    if (first := next(name for name in FAMILIES if recipes[name] == recipes[family])) != family:
        pytest.skip(f"the networks of {first}")
    folder, apart = folders[family], []
    tab = opened(page_of(family))
    if loading.family_class(family).image_to_image:
        ways = {"generator": "AtoB", "generator_back": "BtoA"}
        for network in load_ema_networks(folder).networks:
            if tab.locator(f".way[data-network={network}]").count():
                tab.locator(f".way[data-network={network}]").click()
            translate = TrainedTranslator(folder / "checkpoints" / "best.ckpt", ways[network])
            for number in range(8):
                image = np.random.default_rng(number).integers(256, size=(28, 28), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "given.png")
                tab.locator("#live-file").set_input_files(tmp_path / "given.png")
                wait_for_input(tab, int(image[0, 0]))
                answered(tab)
                expected = translate(to_unit(torch.from_numpy(image)[None, None]))
                apart.append(np.abs(pixels(tab) - to_canvas(expected)))
    else:
        generator = load_generator(folder)
        label = 1 if generator.classes else None
        if label:
            tab.locator("button.class").nth(1).click()
            answered(tab)
        truncation = 1.0
        for first in range(0, SEEDS, 16):
            for place, made in enumerate(wall_of(tab)):
                expected = generator(1, label=label, seed=first + place, truncation=truncation)
                apart.append(np.abs(made - to_canvas(expected)))
            if first == 16 and not generator.network.codes:
                truncation = 0.6
                tab.locator("#live-truncation").fill("0.6")
            tab.get_by_role("button", name="Sixteen more").click()
            answered(tab)
    assert np.max(apart) <= 1
    assert np.mean(apart) < 0.3


@needs_chromium
def test_controls_move_the_image_and_come_back(
    folders: dict[str, Path], page_of: Callable[[str], Path], opened: Any
) -> None:
    folder = folders["acgan"]
    tab = opened(page_of("acgan"))
    start = pixels(tab)
    slider = tab.get_by_label("Direction 1", exact=True)
    slider.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    answered(tab)
    moved = pixels(tab)
    z = load_generator(folder).latents(1, 0).float()
    network = load_ema_networks(folder).networks["generator"]
    traced, tensors = graph.trace(network, *graph.make_example_inputs(network))
    direction = live.find_directions(traced, tensors, z.shape[1])[0].float()
    expected = graph.run_graph(traced, tensors, {"z": z + direction, "y": torch.eye(10)[:1]})
    assert np.abs(moved - to_canvas(expected)).max() <= 1
    assert np.abs(moved - start).max() > 1
    tab.get_by_role("button", name="Keep as A").click()
    tab.locator("#live-seed").fill("5")
    tab.get_by_role("button", name="Keep as B").click()
    for end, place in (("Home", moved), ("End", None)):
        tab.get_by_label("From A to B").focus()
        tab.keyboard.press("End" if end == "Home" else "Home")
        tab.keyboard.press(end)
        answered(tab)
        expected = to_canvas(load_generator(folder)(1, label=0, seed=5)) if place is None else place
        assert np.abs(pixels(tab) - expected).max() <= 1
    tab.locator("#live-seed").fill("0")
    answered(tab)
    assert (pixels(tab) == start).all()
    tab.get_by_role("button", name="Select seed 3", exact=True).click()
    answered(tab)
    assert tab.locator("#live-seed").input_value() == "3"
    assert (pixels(tab) == pixels(tab, ".wall button:nth-child(4) canvas")).all()
    tab.get_by_role("button", name="Sixteen more").click()
    answered(tab)
    assert tab.get_by_role("button", name="Select seed 19", exact=True).count() == 1


@needs_chromium
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_a_walk_moves_by_itself_only_for_who_does_not_mind(
    motion: str, page_of: Callable[[str], Path], opened: Any
) -> None:
    tab = opened(page_of("gan"), reduced_motion=motion)
    start = pixels(tab)
    tab.get_by_role("button", name="walk" if motion == "reduce" else "Walk").click()
    tab.wait_for_timeout(400)
    answered(tab)
    first = pixels(tab)
    tab.wait_for_timeout(400)
    answered(tab)
    assert (first != start).any()
    assert (pixels(tab) == first).all() == (motion == "reduce")


@needs_chromium
def test_a_held_out_image_is_encoded_and_a_drawing_translated(
    folders: dict[str, Path], page_of: Callable[[str], Path], opened: Any
) -> None:
    folder = folders["vaegan"]
    tab = opened(page_of("vaegan"))
    tab.locator("button.held-out").nth(1).click()
    answered(tab)
    grid = np.array(Image.open(folder / "samples" / "000000000.png").convert("L"))
    image = to_unit(torch.from_numpy(grid[32:60, 2:30].copy())[None, None])
    networks = load_ema_networks(folder).networks
    with torch.no_grad():
        expected = networks["generator"](networks["encoder"](image)[0])
    assert np.abs(pixels(tab) - to_canvas(expected)).max() <= 1

    folder = folders["pix2pix"]
    tab = opened(page_of("pix2pix"))
    # the held-out input has its ground truth next to it: the third column of the grid
    tab.locator("button.held-out").nth(1).click()
    answered(tab)
    truth = tab.locator("#live-truth img")
    data = truth.get_attribute("src").partition(",")[2]
    true_image = np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    grid = np.array(Image.open(folder / "samples" / "000000000.png").convert("L"))
    assert (true_image == grid[32:60, 62:90]).all()
    assert truth.is_visible()
    tab.get_by_role("button", name="Clear").click()
    assert not truth.is_visible()
    answered(tab)
    blank = pixels(tab)
    box = tab.locator("#live-input").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 2, steps=4)
    # the translation follows while the pen is down
    answered(tab)
    assert (pixels(tab) != blank).any()
    tab.mouse.up()
    answered(tab)
    drawn = pixels(tab, "#live-input")
    assert drawn.min() == 0
    translate = TrainedTranslator(folder / "checkpoints" / "best.ckpt")
    expected = translate(to_unit(torch.from_numpy(drawn[..., 0].astype(np.uint8))[None, None]))
    assert np.abs(pixels(tab) - to_canvas(expected)).max() <= 1
    assert (pixels(tab) != blank).any()


@needs_chromium
@pytest.mark.parametrize("family", ["vaegan", "pix2pix"])
def test_the_last_click_counts_not_the_last_image_to_be_decoded(
    family: str, page_of: Callable[[str], Path], opened: Any
) -> None:
    tab = opened(page_of(family))
    examples = tab.locator("button.held-out")
    examples.nth(1).click()
    answered(tab)
    expected = pixels(tab)
    examples.nth(0).click()
    answered(tab)
    assert (pixels(tab) != expected).any()
    tab.evaluate(DECODE_FIRST_IMAGE_LATE)
    examples.nth(0).click()
    examples.nth(1).click()
    answered(tab)
    tab.wait_for_timeout(300)
    answered(tab)
    assert (pixels(tab) == expected).all()
    if family == "pix2pix":
        truth = tab.locator("#live-truth img").get_attribute("src")
        assert truth == examples.nth(1).get_attribute("data-truth")


@needs_chromium
def test_two_runs_are_steered_together(
    folders: dict[str, Path], tmp_path: Path, opened: Any
) -> None:
    every = []
    for family in ("gan", "wgan"):
        every.append(tmp_path / family / "x")
        shutil.copytree(folders[family], every[-1])
    tab = opened(report.write(every))
    tab.locator("#live-seed").fill("7")
    answered(tab)
    for place, folder in enumerate(every):
        made = pixels(tab, f"canvas.made[data-model='{place}']")
        assert np.abs(made - to_canvas(load_generator(folder)(1, seed=7))).max() <= 1


@needs_chromium
def test_weights_of_one_run_draw_the_same_seed(
    folders: dict[str, Path], page_of: Callable[[str], Path], opened: Any
) -> None:
    """One after the other or side by side; wall, command, address and reload follow the choice."""
    folder = folders["cgan"]
    tab = opened(page_of("cgan"))
    expected = {
        weights: to_canvas(load_generator(folder, weights)(1, 4, 5))
        for weights in ("best", "last", "raw")
    }
    tab.locator("#live-seed").fill("5")
    tab.locator("button.class").nth(4).click()
    answered(tab)
    assert tab.locator("canvas.made:visible").count() == 1
    tab.get_by_role("button", name="last", exact=True).click()
    answered(tab)
    (canvas,) = tab.locator("canvas.made:visible").all()
    assert canvas.get_attribute("aria-label").endswith("weights last")
    assert np.abs(pixels(tab, "canvas.made:visible") - expected["last"]).max() <= 1
    wall = to_canvas(load_generator(folder, "last")(1, 4, 2))
    assert np.abs(wall_of(tab)[2] - wall).max() <= 1
    command = shlex.split(tab.text_content("#live-command"))
    assert command[3:] == ["--n", "1", "--seed", "5", "--class", "4", "--weights", "last"]
    tab.get_by_label("Side by side").check()
    answered(tab)
    for place, (weights, image) in enumerate(expected.items()):
        made = pixels(tab, f"canvas.made[data-model='{place}']:visible")
        assert np.abs(made - image).max() <= 1, weights
    assert len({image.tobytes() for image in expected.values()}) == 3
    assert tab.url.endswith("#live?seed=5&class=4&weights=last&side=1")
    tab.reload()
    answered(tab)
    assert tab.locator("button.weights[aria-pressed=true]").text_content() == "last"
    assert tab.locator("canvas.made:visible").count() == 3
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download PNG").click()
    record = read_record(download.value.path()) or {}
    assert record["weights"] == "last"


@needs_chromium
def test_weights_of_a_translator_are_compared(
    folders: dict[str, Path], page_of: Callable[[str], Path], opened: Any
) -> None:
    folder = folders["pix2pix"]
    tab = opened(page_of("pix2pix"))
    tab.get_by_role("button", name="raw", exact=True).click()
    answered(tab)
    drawn = pixels(tab, "#live-input")[..., 0].astype(np.uint8)
    networks = load_ema_networks(folder, "raw").networks
    with torch.no_grad():
        expected = networks["generator"](to_unit(torch.from_numpy(drawn)[None, None]))
    assert np.abs(pixels(tab, "canvas.made:visible") - to_canvas(expected)).max() <= 1


def test_other_weights_stay_within_the_limit_of_a_page(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not fit are named, and equal ones are left out."""
    run = Run(folders["gan"])
    model, _ = live.describe_run(run)
    assert model is not None
    monkeypatch.setattr(live, "MAX_WEIGHTS", 2 * model["weights"])
    described = dict(model)
    live.add_other_weights(run, described)
    assert [other["record"]["weights"] for other in described["others"]] == ["last"]
    assert described["omitted"] == ["raw"]
    monkeypatch.setattr(live, "load_ema_networks", lambda path, _: load_ema_networks(path, "best"))
    described = dict(model)
    live.add_other_weights(run, described)
    assert "others" not in described


@needs_chromium
def test_four_runs_of_one_experiment_have_four_generators(
    tmp_path: Path, data_root: Path, opened: Any
) -> None:
    """On the same sliders, each as ``load_generator`` draws it; a fifth run has none."""
    every = []
    for seed in range(5):
        folder = run_folder("cgan", tmp_path / f"r{seed}", data_root, f"run.seed={seed}")
        every.append(folder.rename(tmp_path / f"seed{seed}"))
    tab = opened(report.write(every))
    assert tab.locator("canvas.made").count() == 4
    tab.locator("#live-seed").fill("7")
    tab.locator("button.class").nth(3).click()
    tab.locator("#live-truncation").fill("0.7")
    answered(tab)
    drawn = []
    for place, folder in enumerate(every[:4]):
        made = pixels(tab, f"canvas.made[data-model='{place}']")
        expected = load_generator(folder)(1, 3, 7, truncation=0.7)
        # in [-1, 1], one level is 2 / 255
        assert np.abs(made / 127.5 - 1 - to_canvas(expected) / 127.5 + 1).max() <= 2 * (
            1 / 255 + 1e-3
        )
        drawn.append(made.tobytes())
    assert len(set(drawn)) == 4


@needs_chromium
def test_address_opens_the_same_image_and_command_draws_it(
    folders: dict[str, Path], browser: Any, opened: Any
) -> None:
    """Seed, class, truncation and directions are in the address; the command is that of the lab."""
    page = report.write([folders["cgan"]])
    tab = opened(page)
    assert "#" not in tab.url  # unused, a page keeps its address
    tab.locator("#live-seed").fill("5")
    tab.locator("button.class").nth(4).click()
    tab.locator("#live-truncation").fill("0.5")
    answered(tab)
    image, address = pixels(tab), tab.url
    expected = load_generator(folders["cgan"])(1, 4, 5, truncation=0.5)
    assert np.abs(image - to_canvas(expected)).max() <= 1
    command = shlex.split(tab.text_content("#live-command"))
    assert command[:2] == ["gan-lab", "sample"]
    assert command[3:] == ["--n", "1", "--seed", "5", "--class", "4", "--truncation", "0.5"]
    context = browser.new_context()
    other = context.new_page()
    other.goto(address)
    answered(other)
    assert (pixels(other) == image).all()
    assert other.locator("button.class[aria-pressed=true]").text_content() == "4"
    # moved along a direction, no command draws it, but the address does
    slider = other.get_by_label("Direction 2", exact=True)
    slider.fill("1.5")
    answered(other)
    assert not other.locator("#live-command").is_visible()
    moved = pixels(other)
    third = context.new_page()
    third.goto(other.url)
    answered(third)
    assert (pixels(third) == moved).all()
    assert (moved != image).any()
    # between seeds no address opens the image; the address of another section stays
    other.get_by_role("button", name="Keep as A").click()
    other.locator("#live-seed").fill("6")
    other.get_by_role("button", name="Keep as B").click()
    answered(other)
    assert other.url.endswith("#live?seed=6&class=4&truncation=0.5")
    other.get_by_label("From A to B").fill("0.5")
    answered(other)
    assert other.url == page.as_uri()
    other.locator("#live-seed").fill("6")
    answered(other)
    other.evaluate("location.hash = 'scores'")
    other.wait_for_timeout(100)
    answered(other)
    assert other.url.endswith("#scores")
    # values that a page cannot have are ignored
    third.goto(page.as_uri() + "#live?seed=-1&class=99&truncation=x&d1=<b>")
    third.reload()
    answered(third)
    assert third.locator("#live-seed").input_value() == "0"
    context.close()


@pytest.fixture(scope="module")
def stylegan2(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stylegan2 whose mean of w is not zero."""
    folder = tmp_path_factory.mktemp("stylegan2") / "x"
    shutil.copytree(folders["stylegan2"], folder)
    path = folder / "checkpoints" / "best.ckpt"
    state = read_checkpoint(path)
    mean = state["ema"]["generator"]["mapping.w_avg"]
    mean.copy_(torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)))
    torch.save(state, path)
    return folder


@needs_chromium
def test_style_sliders_draw_what_the_lab_draws(stylegan2: Path, opened: Any, browser: Any) -> None:
    """Truncation in W, the styles of a second seed and the noise switch, of 64 seeds."""
    tab = opened(report.write([stylegan2]))
    tab.locator("#live-truncation").fill("0.6")
    tab.locator("#live-second").fill("99")
    tab.locator("#live-layer").fill("3")
    generator = load_generator(stylegan2)
    network: Any = generator.network
    label = torch.tensor([2])
    tab.locator("button.class").nth(2).click()

    z = torch.cat([generator.latents(1, seed) for seed in (*range(SEEDS), 99)])
    ws = network.repeat_w(network.map_latents(z, label.expand(len(z))), 0.6)
    ws = torch.cat([ws[:, :3], ws[-1:, 3:].expand(len(z), -1, -1)], dim=1)
    drawn = {noise: network.synthesis(ws, noise).float() for noise in ("const", "none")}

    def mix(seed: int, noise: str) -> Tensor:
        images: Tensor = drawn[noise][seed : seed + 1]
        return images

    lab = generator.mix(5, 99, 1, range(3, network.num_ws), 2, truncation=0.6)[3:]
    assert torch.allclose(lab, mix(5, "const"), atol=1e-5)
    apart, images = [], {}
    for first in range(0, SEEDS, 16):
        noise = "const" if first < 32 else "none"
        tab.locator("#live-noise").set_checked(noise == "const")
        answered(tab)
        for place, made in enumerate(wall_of(tab)):
            apart.append(np.abs(made - to_canvas(mix(first + place, noise))))
            images[first + place, noise] = made
        tab.get_by_role("button", name="Sixteen more").click()
        answered(tab)
    assert np.max(apart) <= 1
    assert np.mean(apart) < 0.3
    assert np.abs(to_canvas(mix(5, "none")) - to_canvas(mix(5, "const"))).max() > 1

    tab.locator("#live-seed").fill("5")
    answered(tab)
    assert not tab.locator("#live-command").is_visible()
    tab.locator("#live-noise").check()
    answered(tab)
    command = shlex.split(tab.text_content("#live-command"))
    mixed = ["--n", "1", "--mix", "5", "99", "--layers", "3-", "--class", "2"]
    assert command[3:] == [*mixed, "--truncation", "0.6"]
    image = pixels(tab)
    assert (image == images[5, "const"]).all()
    context = browser.new_context()
    other = context.new_page()
    other.goto(tab.url)
    answered(other)
    assert (pixels(other) == image).all()
    context.close()
    # without a second seed the command has the noise
    tab.locator("#live-second").fill("")
    tab.locator("#live-noise").uncheck()
    answered(tab)
    command = shlex.split(tab.text_content("#live-command"))
    single = ["--n", "1", "--seed", "5", "--class", "2"]
    assert command[3:] == [*single, "--truncation", "0.6", "--noise", "none"]
    assert "noise=none" in tab.url
    expected_image = generator(1, 2, 5, truncation=0.6, noise="none")
    assert np.abs(pixels(tab) - to_canvas(expected_image)).max() <= 1


def save_directions(folder: Path, space: str, size: int) -> None:
    """Write two directions of the best weights, as ``gan-lab directions`` does."""
    draws = torch.randn(2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = (draws / draws.norm(dim=1, keepdim=True)).tolist()
    found = [Direction("pc1", first, 3.0, 0.24), Direction("digit 7", second, 0.5, None, 0.9)]
    source = load_ema_networks(folder).describe_source()
    Directions(space, found, source).save(folder / "directions.json")


@needs_chromium
@pytest.mark.parametrize("family", ["gan", "stylegan2"])
def test_saved_directions_have_sliders(
    family: str, folders: dict[str, Path], stylegan2: Path, tmp_path: Path, opened: Any
) -> None:
    """By name, in standard deviations as ``sample --move``: in Z, or in W after the truncation."""
    folder = tmp_path / family / "x"
    shutil.copytree(stylegan2 if family == "stylegan2" else folders[family], folder)
    network = load_generator(folder).network
    in_w = family == "stylegan2"
    size = len(network.mapping.w_avg) if in_w else network.recipe["arguments"]["z_dim"]
    save_directions(folder, "w" if in_w else "z", size)
    tab = opened(report.write([folder]))
    assert tab.locator("input.direction").count() == 2
    tab.locator("#live-seed").fill("5")
    tab.locator("#live-truncation").fill("0.5")
    tab.get_by_label("pc1 (24%)").fill("2")
    tab.get_by_label("digit 7").fill("-1.5")
    answered(tab)
    generator = load_generator(folder)
    move = {"pc1": 2.0, "digit 7": -1.5}
    label = 0 if generator.classes else None
    expected = generator(1, label, 5, truncation=0.5, move=move)
    assert np.abs(pixels(tab, "canvas.made:visible") - to_canvas(expected)).max() <= 1
    unmoved = generator(1, label, 5, truncation=0.5)
    assert np.abs(to_canvas(expected) - to_canvas(unmoved)).max() > 1
    command = shlex.split(tab.text_content("#live-command"))
    assert command[-4:] == ["--move", "pc1=2", "--move", "digit 7=-1.5"]
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download PNG").click()
    record = read_record(download.value.path()) or {}
    assert record["move"] == move
    assert record["directions"] == generator.directions.compute_digests(move)
    tab.get_by_role("button", name="last", exact=True).click()
    answered(tab)
    assert not tab.locator("#live-command").is_visible()
    tab.get_by_role("button", name="best", exact=True).click()
    answered(tab)
    # A and B keep the movement, with any truncation
    moved = pixels(tab, "canvas.made:visible")
    tab.get_by_role("button", name="Keep as A").click()
    tab.get_by_label("pc1 (24%)").fill("-2")
    answered(tab)
    other = pixels(tab, "canvas.made:visible")
    assert np.abs(other - moved).max() > 1
    tab.get_by_role("button", name="Keep as B").click()
    for share, end in (("0", moved), ("1", other)):
        tab.locator("#live-way").fill(share)
        answered(tab)
        assert np.abs(pixels(tab, "canvas.made:visible") - end).max() <= 1
    tab.locator("#live-seed").fill("5")
    answered(tab)
    assert np.abs(pixels(tab, "canvas.made:visible") - to_canvas(unmoved)).max() <= 1


def test_page_has_sliders_of_the_first_directions(folders: dict[str, Path], tmp_path: Path) -> None:
    """A file may have any number of directions; the page says how many it leaves out."""
    folder = tmp_path / "gan" / "x"
    shutil.copytree(folders["gan"], folder)
    size = load_generator(folder).z_dim
    vectors = torch.eye(size)[:20].tolist()
    found = [Direction(f"pc{k}", vector, 2.0, 0.1) for k, vector in enumerate(vectors, 1)]
    Directions("z", found, load_ema_networks(folder).describe_source()).save(
        folder / "directions.json"
    )
    model, _ = live.describe_run(Run(folder))
    assert model is not None
    assert model["directions"] == [[2 * x for x in vector] for vector in vectors[:16]]
    assert model["saved"]["names"] == [f"pc{k}" for k in range(1, 17)]
    page = report.write([folder]).read_text(encoding="utf-8")
    assert "in standard deviations of the latents: the first 16 of 20." in page
    assert page.count('class="direction"') == 16


def test_directions_of_other_weights_have_no_sliders(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "gan" / "x"
    shutil.copytree(folders["gan"], folder)
    save_directions(folder, "z", load_generator(folder).z_dim)
    shutil.copyfile(folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt")
    model, _ = live.describe_run(Run(folder))
    assert model is not None
    assert "saved" not in model
    assert model["directions"]


@needs_chromium
def test_embedded_stylegan2_truncates_w(stylegan2: Path, browser: Any) -> None:
    model, _ = live.describe_run(Run(stylegan2))
    assert model is not None
    tab = browser.new_page()
    tab.add_script_tag(content=embedding.render_script(model))
    draw = f"""truncation => {{
        const canvas = document.createElement('canvas');
        ganLab.draw(canvas, {{ seed: 3, truncation }});
        return ({PIXELS})(canvas);
    }}"""
    for truncation in (1.0, 0.5):
        made = np.array(tab.evaluate(draw, truncation)).reshape(28, 28, 4)[..., :3]
        expected = load_generator(stylegan2)(1, 0, 3, truncation=truncation)
        assert np.abs(made - to_canvas(expected)).max() <= 1
    tab.close()


@needs_chromium
def test_embedded_codes_refuse_truncation(folders: dict[str, Path], browser: Any) -> None:
    model, _ = live.describe_run(Run(folders["infogan"]))
    assert model is not None
    tab = browser.new_page()
    tab.add_script_tag(content=embedding.render_script(model))
    draw = "truncation => ganLab.draw(document.createElement('canvas'), { truncation })"
    tab.evaluate(draw, 1)
    with pytest.raises(PlaywrightError, match="truncation"):
        tab.evaluate(draw, 0.5)
    tab.close()


@needs_chromium
def test_two_classes_are_mixed(stylegan2: Path, opened: Any) -> None:
    """As a walk of the lab mixes them; no command draws it, but the address does."""
    tab = opened(report.write([stylegan2]))
    tab.locator("#live-seed").fill("3")
    tab.locator("button.class").nth(4).click()
    tab.locator("#live-class").select_option("7")
    tab.locator("#live-blend").fill("0.25")
    answered(tab)
    generator = load_generator(stylegan2)
    weights = torch.zeros(1, 10)
    weights[0, 4], weights[0, 7] = 0.75, 0.25
    mixed = generator.images_of(generator.latents(1, 3).float(), weights)
    assert np.abs(pixels(tab) - to_canvas(mixed)).max() <= 1
    assert np.abs(to_canvas(mixed) - to_canvas(generator(1, 4, 3))).max() > 1
    assert not tab.locator("#live-command").is_visible()
    assert "class=4&class2=7&blend=0.25" in tab.url
    before = pixels(tab)
    tab.reload()
    answered(tab)
    assert (pixels(tab) == before).all()


@needs_chromium
def test_each_image_of_a_seed_is_reachable(
    folders: dict[str, Path], page_of: Callable[[str], Path], opened: Any
) -> None:
    tab = opened(page_of("cgan"))
    tab.locator("#live-seed").fill("1")
    tab.locator("#live-index").fill("63")
    tab.locator("button.class").nth(4).click()
    answered(tab)
    expected = load_generator(folders["cgan"])(64, 4, 1)[63:]
    assert np.abs(pixels(tab) - to_canvas(expected)).max() <= 1
    command = shlex.split(tab.text_content("#live-command"))
    assert command[3:] == ["--n", "64", "--seed", "1", "--class", "4"]
    assert tab.url.endswith("#live?seed=1&image=63&class=4")
    before = pixels(tab)
    tab.reload()
    answered(tab)
    assert (pixels(tab) == before).all()
    # further seeds have one image in the page
    tab.locator("#live-seed").fill("900")
    answered(tab)
    assert tab.locator("#live-index").is_disabled()
    assert tab.locator("#live-index").input_value() == "0"


@needs_chromium
def test_tile_of_a_grid_opens_in_the_player(
    folders: dict[str, Path], tmp_path: Path, opened: Any
) -> None:
    """By click or by number: the latent of that tile, and its class."""
    folder = tmp_path / "cgan" / "x"
    shutil.copytree(folders["cgan"], folder)
    generator = load_generator(folder)
    z = generator.network.sample_latents(Stream(0, "samples"), 20, like=torch.empty(0))
    labels = [3] * 10 + [8] * 10
    images = generator.images_of(z, torch.tensor(labels))
    record = {
        "output": "training grid",
        "sets": ["generated"],
        "columns": 10,
        "tile": [28, 28],
        "count": 20,
        "labels": labels,
    }
    names = ["three", "eight"]
    save_grid(images, 10, folder / "samples" / "000000032.png", names, record)
    tab = opened(report.write([folder]))
    tab.locator("#live-truncation").fill("0.5")
    grid = tab.locator("#grid")
    box, natural = (
        grid.bounding_box(),
        grid.evaluate("img => [img.naturalWidth, img.naturalHeight]"),
    )
    scale = box["width"] / natural[0]
    # tile 17, in the second row; captions are at the left
    left = natural[0] - 10 * 30 - 2
    grid.click(position={"x": (left + 7 * 30 + 16) * scale, "y": 46 * scale})
    answered(tab)
    assert np.abs(pixels(tab) - to_canvas(images[17:18])).max() <= 1
    assert tab.locator("button.class[aria-pressed=true]").text_content() == "8"
    assert tab.locator("#grid-tile").input_value() == "18"
    assert tab.url.endswith("#live?grid=18&class=8")
    tab.reload()
    answered(tab)
    assert np.abs(pixels(tab) - to_canvas(images[17:18])).max() <= 1
    tab.locator("#grid-tile").fill("3")
    tab.locator("#grid-open").click()
    answered(tab)
    assert np.abs(pixels(tab) - to_canvas(images[2:3])).max() <= 1
    assert not tab.locator("#live-command").is_visible()


def test_trace_binds_the_scaled_weights_of_each_network() -> None:
    """Scaled weights are constants of a graph, but those of its network, not of the first one."""
    for seed in range(2):
        torch.manual_seed(seed)
        generator = StyleGANGenerator(
            z_dim=8, shape=(1, 16, 16), w_dim=8, width=4, max_width=8
        ).eval()
        traced, tensors = live.trace(MappingPart(generator))
        z = torch.randn(3, 8)
        with torch.no_grad():
            expected = generator.map_latents(z)
            assert torch.allclose(graph.run_graph(traced, tensors, {"z": z}), expected, atol=1e-5)


@needs_chromium
def test_downloaded_image_is_identified(
    folders: dict[str, Path], opened: Any, tmp_path: Path
) -> None:
    """The file from the browser has the record of the lab, and the pixels of the canvas."""
    tab = opened(report.write([folders["cgan"]]))
    tab.locator("#live-seed").fill("5")
    tab.locator("button.class").nth(4).click()
    answered(tab)
    with tab.expect_download() as started_download:
        tab.get_by_role("button", name="Download PNG").click()
    path = tmp_path / started_download.value.suggested_filename
    started_download.value.save_as(path)
    assert path.name == "image-seed5-class4.png"
    with Image.open(path) as picture:
        picture.verify()
    with Image.open(path) as picture:
        assert (np.asarray(picture.convert("RGB")) == pixels(tab)).all()
    lines = identification.identify(path, folders["cgan"].parent.parent)
    assert shlex.split(lines[-1])[3:] == ["--n", "1", "--seed", "5", "--class", "4"]
    assert not any("changed" in line or "not found" in line for line in lines)
    # between seeds there is no seed to record
    tab.get_by_role("button", name="Keep as A").click()
    tab.locator("#live-seed").fill("6")
    tab.get_by_role("button", name="Keep as B").click()
    tab.get_by_label("From A to B").fill("0.5")
    answered(tab)
    assert tab.locator("#live-seed").input_value() == ""
    assert not tab.locator("#live-command").is_visible()
    with tab.expect_download() as started_download:
        tab.get_by_role("button", name="Download PNG").click()
    started_download.value.save_as(path)
    assert identification.identify(path, tmp_path)[-1] == "No command draws it again"


def test_a_page_says_why_networks_are_not_in_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders["gan"]
    monkeypatch.setattr(live, "list_operations", lambda: frozenset())
    text = report.write([folder], tmp_path / "none.html").read_text("utf-8")
    assert (
        "does not include the networks: they cannot run in a page: the page does not support aten."
        in text
    )
    assert f"gan-lab export {folder}" in text
    model, why = live.describe_run(Run(folder), max_weights=10)
    assert model is None
    assert "weights, more than the limit of 10" in why


def test_second_page_of_the_same_weights_is_not_traced(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It equals the first page byte for byte; other weights or lab versions are traced."""
    folder = folders["gan"]
    page = report.write([folder])
    first = page.read_bytes()
    traced: list[object] = []
    trace = live.trace
    monkeypatch.setattr(live, "trace", lambda network: traced.append(network) or trace(network))
    assert report.write([folder]).read_bytes() == first
    assert traced == []
    # a page at another path is no earlier page of this run: best, last and raw weights
    report.write([folder], tmp_path / "copy.html")
    assert len(traced) == 3
    best = folder / "checkpoints" / "best.ckpt"
    saved = best.read_bytes()
    shutil.copyfile(folder / "checkpoints" / "last.ckpt", best)
    try:
        assert report.write([folder]).read_bytes() != first
    finally:
        best.write_bytes(saved)
    assert len(traced) == 4, "the raw weights are known"
    assert report.write([folder]).read_bytes() == first
    assert len(traced) == 6, "the raw weights are known"
    monkeypatch.setattr(live, "hash_code", lambda: "another")
    report.write([folder])
    assert len(traced) == 9


@pytest.mark.parametrize(("scale", "half"), [(1.0, True), (1e5, False), (1e-8, False)])
def test_weights_that_halving_would_spoil_are_kept_whole(
    scale: float, half: bool, folders: dict[str, Path]
) -> None:
    """A float16 has no 100,000, and 1e-8 becomes 0; the next layer normalizes the scale."""
    network = load_ema_networks(folders["gan"]).networks["generator"]
    linear = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    first, second = linear[:2]
    with torch.no_grad():
        first.weight.mul_(scale / first.weight.abs().max())
        second.weight.div_(scale)
    described = live.describe_network(
        network, *graph.trace(network, *graph.make_example_inputs(network))
    )
    assert described["half"] is half
    whole = sum(weight.numel() for weight in network.state_dict().values())
    assert len(described["weights"]) == pytest.approx(whole * (2 if half else 4) * 4 / 3, rel=0.01)


def trained_elsewhere(folder: Path) -> FileLock:
    """Hold the lock of a run folder as another process does that trains it."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


@needs_chromium
def test_page_of_training_reloads_itself_and_keeps_its_controls(
    folders: dict[str, Path], browser: Any
) -> None:
    """The next page shows newer results, and the seed, class, directions and grid as they were."""
    folder = folders["cgan"]
    noise = Image.open(folder / "samples" / "000000000.png")
    noise.save(folder / "samples" / "000000016.png")
    with trained_elsewhere(folder):
        page_path = report.write([folder])
    context = browser.new_context(viewport={"width": 900, "height": 700})
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.clock.install()
    # as in browsers that forbid another address for a page from disk
    tab.add_init_script(FORBID_ADDRESSES)
    tab.goto(page_path.as_uri())
    answered(tab)
    tab.locator("#live-truncation").fill("0.5")
    tab.locator("button.class").nth(3).click()
    tab.locator("#live-seed").fill("5")
    tab.locator("input.direction").first.evaluate(SET, "1.5")
    tab.locator("button.end").first.click()
    tab.locator("#when").evaluate(SET, "0")
    tab.locator("details summary").first.click()
    answered(tab)
    before = pixels(tab)

    # paused, or under the hands of a reader, it stays
    noise.save(folder / "samples" / "000000032.png")
    with trained_elsewhere(folder):
        report.write([folder])
    tab.locator("#pause").click()
    tab.clock.fast_forward(120_000)
    assert "16 of" in tab.locator("#training").inner_text()
    tab.locator("#pause").click()
    tab.clock.fast_forward(3_000)
    assert "16 of" in tab.locator("#training").inner_text()
    tab.evaluate("scrollTo({ top: 300, behavior: 'instant' })")
    with tab.expect_navigation():
        tab.clock.fast_forward(60_000)
    answered(tab)
    assert "32 of" in tab.locator("#training").inner_text()
    assert tab.locator("#live-seed").input_value() == "5"
    assert tab.locator("button.class").nth(3).get_attribute("aria-pressed") == "true"
    assert tab.locator("input.direction").first.input_value() == "1.5"
    assert tab.locator("#live-truncation").input_value() == "0.5"
    assert tab.locator("button.end").first.get_attribute("aria-pressed") == "true"
    assert tab.locator("#seen").inner_text() == "0"
    assert tab.locator("details").first.evaluate("each => each.open")
    assert tab.evaluate("scrollY") == 300
    assert np.array_equal(pixels(tab), before)

    # no new page: it waits longer each time, and says so
    for _ in range(2):
        with tab.expect_navigation():
            tab.clock.fast_forward(300_000)
        # on a slow machine the page would otherwise be left before it has read its state
        answered(tab)
    assert "No update since" in tab.locator("#about-updates").inner_text()

    # the page of a run that nobody trains does not reload
    report.write([folder])
    with tab.expect_navigation():
        tab.clock.fast_forward(300_000)
    answered(tab)
    assert tab.locator("#training").count() == 0
    context.close()
    assert faults == []


@needs_chromium
@pytest.mark.parametrize("kind", ["training", "stylegan2", "vaegan", "pix2pix"])
def test_page_with_networks_has_no_accessibility_violation(
    kind: str, folders: dict[str, Path], stylegan2: Path, tmp_path: Path, browser: Any
) -> None:
    """axe-core finds nothing: a page that reloads itself, and each kind of controls."""
    origin = {"training": folders["cgan"], "stylegan2": stylegan2}.get(kind) or folders[kind]
    folder = shutil.copytree(origin, tmp_path / "run")
    with trained_elsewhere(folder) if kind == "training" else nullcontext():
        page_path = report.write([folder])
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(page_path.as_uri())
    answered(tab)
    assert tab.locator("#training").count() == (kind == "training")
    for width, scheme in itertools.product((1280, 390), ("light", "dark")):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(color_scheme=scheme)
        assert (width, scheme, find_violations(tab)) == (width, scheme, [])
    context.close()


@needs_chromium
def test_page_of_slow_training_is_late_after_twice_its_interval(
    tmp_path: Path, browser: Any
) -> None:
    """A page each hour is reloaded more often, and does not say that the training has stopped."""
    folder = written_run(tmp_path / "run", ended=False)
    page = report.write_live(folder, None, run_page.Training(128, 256, "Training", "", 3600.0))
    context = browser.new_context()
    tab = context.new_page()
    tab.clock.install()
    tab.goto(page.as_uri())
    about = tab.locator("#about-updates")
    for _ in range(3):
        with tab.expect_navigation():
            tab.clock.fast_forward(400_000)
        assert "Updated at" in about.inner_text()
    with tab.expect_navigation():
        tab.clock.fast_forward(7_200_000)
    assert "No update since" in about.inner_text()
    context.close()


@needs_chromium
def test_reload_keeps_the_drawing_of_a_translator(folders: dict[str, Path], browser: Any) -> None:
    """What a reader has drawn is still there after the page reloaded itself."""
    folder = folders["pix2pix"]
    with trained_elsewhere(folder):
        page_path = report.write([folder])
    context = browser.new_context()
    tab = context.new_page()
    tab.clock.install()
    tab.goto(page_path.as_uri())
    answered(tab)
    box = tab.locator("#live-input").bounding_box()
    tab.mouse.move(box["x"] + 9, box["y"] + 9)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 60, box["y"] + 60)
    tab.mouse.up()
    answered(tab)
    before = pixels(tab, "#live-input"), pixels(tab)
    with tab.expect_navigation():
        tab.clock.fast_forward(60_000)
    answered(tab)
    wait_for_input(tab, before[0][0, 0, 0])
    answered(tab)
    after = pixels(tab, "#live-input"), pixels(tab)
    assert np.array_equal(after[0], before[0])
    assert np.abs(after[1].astype(int) - before[1]).max() <= 1
    context.close()
