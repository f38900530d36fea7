"""The pages in a browser, from disk: no requests or errors; slider, charts, tables work."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lab import load_generator, report
from gan_lab.images import save_grid
from gan_lab.runs.point_frames import write_frame
from gan_lab.sensitivity import sensitivity_page
from gan_lab.sensitivity.detection import DetectionResult, SensitivityReport
from gan_lab.sensitivity.distortions import Distortion
from gan_lab.sweeps import sweep_file, sweep_report
from gan_lab.sweeps.sweep_report import Row
from tests.helpers.browser import find_paper_faults, find_violations, needs_chromium, started
from tests.helpers.folders import run_folder
from tests.helpers.reports import HOSTILE, SEEN, entry, written_run

pytestmark = needs_chromium
# as many as all extractors have
SENSITIVE_MEASURES = ("kd", *(f"long_named_measure_{i}" for i in range(1, 20)))
Open = Callable[..., Any]


browser = pytest.fixture(started, scope="module")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    """Every kind of page: runs (hostile, empty, with networks), comparison, sweep, sensitivity."""
    root = tmp_path_factory.mktemp("pages")
    folders = [
        written_run(root / f"{e}{s}", f"run.seed={s}", experiment=e, distance=d + s)
        for e, d in (("cgan", 7.0), ("gan", 10.0), ("dcgan", 20.0))
        for s in (0, 1)
    ]
    for folder in folders[2:4]:
        text = (folder / "summary.json").read_text()
        (folder / "summary.json").write_text(text.replace("kd_digits", "kd_random"))
    unscored = written_run(root / "unscored", experiment="wgan", ended=False)
    hostile = written_run(
        root / "hostile", f"data.root={HOSTILE}", f"run.root={'long/' * 60}", "model.z_dim=7"
    )
    (hostile / "health.csv").write_text(
        f"iteration,images,kind,sentence\n1,16,{HOSTILE},{HOSTILE}\n"
    )
    (hostile / "environment.txt").write_text(f"python {HOSTILE}\n")
    (hostile / "metrics.csv").write_text(
        f"iteration,images,{HOSTILE}\n1,16,1.0\n2,32,nan\n3,48,2.0\n"
    )
    empty = written_run(root / "empty", ended=False)
    for path in [*empty.iterdir()]:
        shutil.rmtree(path) if path.is_dir() else path.name == "config.yaml" or path.unlink()
    (empty / "config.yaml").write_text("family: gan\n")
    scored = written_run(root / "scored", distance=12.345)
    write_many_scores(scored)
    return {
        "run": report.write([folders[0]]),
        "scored": report.write([scored]),
        "hostile": report.write([hostile]),
        "empty": report.write([empty]),
        "several": report.write([*folders, unscored, hostile]),
        "latents": report.write([run_folder("cgan", root / "latents", data_root)]),
        "points": write_points_page(root, data_root),
        "translator": report.write([run_folder("cyclegan", root / "translator", data_root)]),
        "sweep": write_sweep_page(root),
        "sensitivity": write_sensitivity_page(root),
    }


def write_many_scores(folder: Path) -> None:
    """Give a run the widest table of scores: long names, standard deviations, trivial baselines."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    names = ("kd_digits", "nearest_ratio_digits", "reconstruction_accuracy", "density_lite0_mid")
    for weights in ("best", "last", "raw"):
        for i, name in enumerate(names):
            for kind in ("", "_of_replay", "_of_mean_image"):
                summary["scores"][weights][name + kind] = entry(-0.12345 * (i + 1), spread=0.0123)
    path.write_text(json.dumps(summary))


def write_points_page(root: Path, data_root: Path) -> Path:
    """Write the page of a run on 2-D points with two frames: one point each, and a half-plane."""
    ring = ["data.name=toy", "model.network=mlp", "model.norm=none", "model.z_dim=2"]
    folder = run_folder("gan", root / "points", data_root, *ring)
    for images, (x, y) in ((0, (-0.5, 0.5)), (32, (0.5, 0.5))):
        point = torch.tensor([x, y]).view(1, 2, 1, 1)
        left, right = torch.full((41, 20), -20.0), torch.full((41, 21), 20.0 if images else -20.0)
        logits = torch.cat([left, right], dim=1).flatten()
        path = folder / "samples" / f"{images:09d}.png"
        save_grid(point, 8, path)
        write_frame(path.with_suffix(".npz"), point, logits, "nonsaturating")
    # a moment whose frame is lost has its grid
    save_grid(point, 8, folder / "samples" / "000000064.png")
    return report.write([folder])


def write_sweep_page(root: Path) -> Path:
    """Write the page of a sweep with three trials."""
    sweep = sweep_file.load("cgan_lr")
    rows = [
        Row(
            i,
            "complete",
            {each.key: 1e-4 for each in sweep.parameters},
            5.0 - i,
            {1: 6.0, 2: 5.0 - i},
        )
        for i in range(3)
    ]
    importances = {each.key: 1 / len(sweep.parameters) for each in sweep.parameters}
    page = root / "sweep.html"
    result = sweep_report.SweepResult(sweep, rows, rows[2], importances)
    page.write_text(sweep_report.render(result, None, root, []), encoding="utf-8")
    return page


def write_sensitivity_page(root: Path) -> Path:
    """Write the page of a sensitivity measurement with made-up thresholds of many scores."""
    distortions = [Distortion("blur", "px", (1, 2, 4)), Distortion("noise", "levels", (2, 8))]
    results = [
        DetectionResult("lite0", measure, each, [1.0, 9.0, 90.0][: len(each.severities)],
                        [False, True, True][: len(each.severities)])
        for each in distortions
        for measure in SENSITIVE_MEASURES
    ]  # fmt: skip
    measured = SensitivityReport("faces", 40, results, ["n is 40, not 50: there are 80 images"])
    return sensitivity_page.write_page(measured, root / "sensitivity.html")


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Open]:
    """Open a page; fail on console messages, exceptions, dialogs and requests."""
    faults: list[str] = []
    requests: list[str] = []
    contexts = []

    def load(name: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.goto(pages[name].as_uri())
        page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        return page

    yield load
    for context in contexts:
        context.close()
    assert faults == []
    assert len(requests) >= len(contexts)
    assert {url for url in requests if not url.startswith(("data:", "blob:null/"))} <= {
        path.as_uri() for path in pages.values()
    }


def settled(page: Any) -> None:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def ticks(page: Any) -> list[str]:
    return page.locator("[data-chart]").first.locator("text.x").all_text_contents()


def test_the_slider_moves_the_picture_by_keyboard(opened: Open, pages: dict[str, Path]) -> None:
    page = opened("run")
    slider = page.locator("#when")
    files = [(pages["run"].parent / "samples" / f"{seen:09d}.png").read_bytes() for seen in SEEN]

    def check_grid() -> int:
        source = page.get_attribute("#grid", "src")
        place = files.index(base64.b64decode(source.partition(",")[2]))
        said = f"{SEEN[place]:,}"
        assert page.text_content("#seen") == said
        assert slider.get_attribute("aria-valuetext") == f"{said} images seen"
        assert page.get_attribute("#grid", "alt").endswith(f"after {said} images seen")
        return place

    assert check_grid() == 4
    slider.focus()
    for key, place in (
        ("ArrowLeft", 3),
        ("ArrowLeft", 2),
        ("ArrowRight", 3),
        ("Home", 0),
        ("End", 4),
    ):
        page.keyboard.press(key)
        assert check_grid() == place
    assert page.evaluate("document.getElementById('grid').naturalWidth") == 30
    slider.fill("1")
    assert check_grid() == 1


def read_plane(page: Any) -> np.ndarray:
    """The colors of the player of 2-D points, [512, 512, 3]."""
    # a list of a million numbers would take seconds
    url = page.locator("#points").evaluate("c => c.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_points_and_discriminator_follow_the_slider(opened: Open) -> None:
    """Blue looks generated, orange real; the colors are those of the scheme, also on paper."""
    page = opened("points", color_scheme="light")
    plane, grid = page.locator("#points"), page.locator("#grid")
    assert grid.is_visible()
    assert plane.is_hidden()
    blue, orange, ink = (31, 111, 178), (194, 80, 15), (29, 31, 35)
    for position, point, right in ((0, (128, 128), blue), (1, (128, 384), orange)):
        page.locator("#when").fill(str(position))
        assert plane.is_visible()
        assert grid.is_hidden()
        colors = read_plane(page)
        assert tuple(colors[400, 100]) == blue
        assert tuple(colors[400, 450]) == right
        ground = np.array(right if position else blue)
        assert np.abs(colors[point] - (0.6 * np.array(ink) + 0.4 * ground)).max() <= 2
        label = plane.get_attribute("aria-label")
        assert label.endswith(f"discriminator's output, {32 * position} images seen")
    page.emulate_media(color_scheme="dark")
    settled(page)
    assert tuple(read_plane(page)[400, 450]) == (245, 150, 90)
    page.emulate_media(color_scheme="dark", media="print")
    settled(page)
    assert tuple(read_plane(page)[400, 450]) == orange


def test_new_points_are_those_of_the_generator(opened: Open, pages: dict[str, Path]) -> None:
    """The generator in the page draws the points of ``gan-lab sample``, at its moment."""
    page = opened("points", color_scheme="light", reduced_motion="reduce")
    for seed in (0, 1):
        page.get_by_role("button", name="New samples").click()
        page.get_by_text(f"--n 500 --seed {seed}").wait_for()
        # best.ckpt is after one iteration of 16 images: later than the first moment
        assert page.text_content("#seen") == "0"
        assert page.locator("#points").get_attribute("aria-label").startswith("500 new points")
        # one color, blue, without points
        inked = read_plane(page)[..., 2] < 170
        expected = load_generator(pages["points"].parent)(500, seed=seed).flatten(1).numpy()
        columns = (expected[:, 0] + 1) / 2 * 511
        rows = (1 - expected[:, 1]) / 2 * 511
        assert inked[rows.round().astype(int), columns.round().astype(int)].all()
        near = np.zeros_like(inked)
        for row, column in zip(rows.round().astype(int), columns.round().astype(int), strict=True):
            near[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6] = True
        assert not (inked & ~near).any()
    # the slider returns to the fixed latents; with reduced motion, a click is one step
    page.get_by_role("button", name="Next moment").click()
    assert page.text_content("#seen") == "32"
    assert page.locator("#points").get_attribute("aria-label").startswith("1 generated points")


def test_one_slider_moves_the_grids_of_all_runs(browser: Any, tmp_path: Path) -> None:
    """Each run shows its latest grid at that moment; a run without an earlier one its first."""
    folders = [written_run(tmp_path / f"cgan{i}", f"run.seed={i}") for i in range(2)]
    for name in ("000000064.png", "000000192.png"):
        (folders[1] / "samples" / name).unlink()
    page = browser.new_page()
    page.goto(report.write(folders).as_uri())
    seen = page.locator(".shot-seen")
    assert seen.all_text_contents() == ["256", "256"]
    slider = page.locator("#moment")
    for position, expected in ((1, ["64", "0"]), (3, ["192", "128"]), (0, ["0", "0"])):
        slider.fill(str(position))
        assert seen.all_text_contents() == expected
        for folder, images, picture in zip(
            folders, expected, page.locator("img.shot").all(), strict=True
        ):
            source = picture.get_attribute("src").partition(",")[2]
            file = folder / "samples" / f"{int(images):09d}.png"
            assert base64.b64decode(source) == file.read_bytes()
            assert picture.get_attribute("alt").endswith(f"after {images} images")
    assert page.text_content("#moment-seen") == "0"
    page.close()


def test_charts_zoom_by_buttons_drag_wheel_and_keyboard(opened: Open) -> None:
    page = opened("run")
    range_ = page.locator("#range")
    whole = ticks(page)
    assert range_.text_content() == "0 to 256 images"

    def zoomed(how: Callable[[], Any]) -> tuple[int, int]:
        how()
        settled(page)
        before, after = re.findall(r"\d+", range_.text_content())
        assert ticks(page) != whole
        return int(before), int(after)

    def reset() -> None:
        page.get_by_role("button", name="Reset").click()
        settled(page)
        assert ticks(page) == whole

    assert zoomed(page.get_by_role("button", name="Zoom in").click) == (64, 192)
    assert zoomed(page.get_by_role("button", name="Move to the left").click) == (32, 160)
    assert zoomed(page.get_by_role("button", name="Move to the right").click) == (64, 192)
    reset()
    svg = page.locator("[data-chart] > svg").first
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    left, width = box["x"] + 52, box["width"] - 62  # of the axis
    page.mouse.move(left + width / 4, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(left + width * 0.6, box["y"] + 90, steps=3)
    assert page.locator("rect.chosen").first.get_attribute("visibility") == "visible"
    low, high = zoomed(
        lambda: (page.mouse.move(left + width * 0.75, box["y"] + 90), page.mouse.up())
    )
    assert abs(low - 64) <= 1
    assert abs(high - 192) <= 1
    reset()
    svg.focus()
    low, high = zoomed(
        lambda: (page.mouse.move(left + width / 2, box["y"] + 80), page.mouse.wheel(0, -300))
    )
    assert abs(low - (128 - 128 / 2.718)) <= 2
    assert abs(high - (128 + 128 / 2.718)) <= 2
    page.keyboard.press("0")
    settled(page)
    assert ticks(page) == whole
    page.mouse.move(0, 0)
    assert zoomed(lambda: page.keyboard.press("+")) == (64, 192)
    assert zoomed(lambda: page.keyboard.press("Shift+ArrowRight")) == (96, 224)


def test_the_wheel_scrolls_the_page_while_no_chart_is_chosen(opened: Open) -> None:
    page = opened("run")
    svg = page.locator("[data-chart] > svg").first
    svg.scroll_into_view_if_needed()
    box, before = svg.bounding_box(), page.evaluate("scrollY")
    page.mouse.move(box["x"] + 100, box["y"] + 80)
    page.mouse.wheel(0, 200)
    page.wait_for_function("(before) => scrollY > before", arg=before)
    assert page.text_content("#range") == "0 to 256 images"


def test_two_fingers_zoom_what_is_under_them(opened: Open) -> None:
    page = opened("run", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    svg = page.locator("[data-chart] > svg").first
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    left, width, y = box["x"] + 52, box["width"] - 62, box["y"] + 80
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: float) -> None:
        points = [
            {"x": left + place * width, "y": y, "id": number} for number, place in enumerate(places)
        ]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 0.4)
    fingers("touchStart", 0.4, 0.6)
    fingers("touchMove", 0.3, 0.7)
    fingers("touchMove", 0.2, 0.8)
    fingers("touchEnd")
    settled(page)
    low, high = map(int, re.findall(r"\d+", page.text_content("#range")))
    # what was a fifth of the axis is three fifths of it now
    assert (high - low) == pytest.approx(256 / 3, rel=0.03)
    assert (high + low) / 2 == pytest.approx(128, abs=2)


def test_chart_shows_the_value_under_mouse_and_by_arrow_key(opened: Open) -> None:
    page = opened("run")
    chart = page.locator("[data-chart]", has_text="loss_g")
    svg = chart.locator("> svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    page.mouse.move(box["x"] + 52 + (box["width"] - 62) * 64 / 256, box["y"] + 60)
    assert chart.locator(".at").text_content() == "at 64 images"
    assert (
        chart.locator(".legend button", has_text="loss_g").locator("b").text_content() == "0.5"
    )  # of iteration 4
    page.mouse.move(0, 0)
    assert chart.locator(".at").text_content() == ""
    svg.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#said") == "32 images: loss_d 0.9093, loss_g 0.25"
    paths = chart.locator("path.line")
    assert paths.count() == 2
    button = chart.get_by_role("button", name=re.compile("loss_d"))
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert paths.count() == 1


def test_tables_sort_by_click_and_key_with_missing_values_last(opened: Open) -> None:
    page = opened("several")
    table = page.locator("table.sortable").first

    def column(place: int = 3) -> list[str]:
        cells = table.locator(f"tbody tr td:nth-child({place})").all_text_contents()
        return [text.split(" ")[0] for text in cells]

    head = table.get_by_role("button", name="fd_digits")
    head.click()
    up = column()
    assert up == ["2", "7.5", "10.5", "20.5"]
    assert head.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    head.press("Enter")
    assert column() == up[::-1]
    assert head.locator("xpath=..").get_attribute("aria-sort") == "descending"
    for _ in "up", "down":
        table.get_by_role("button", name="kd_digits").click()
        assert column(4)[-1] == ""
        assert "" not in column(4)[:-1]
    table.get_by_role("button", name="experiment").press("Space")
    names = table.locator("tbody th").all_text_contents()
    assert names == sorted(names)
    assert table.locator("[aria-sort]").count() == 1
    runs = page.locator("#runs table")
    runs.get_by_role("button", name="health").click()
    health = runs.locator("tbody td:nth-child(3)").all_text_contents()
    assert health == [HOSTILE, *["no alert"] * 6, "no health checks"]
    chart = page.locator("[data-chart]").first
    assert chart.locator("path.line").count() == 7  # the hostile run has no curve of scores


def test_commands_are_copied(opened: Open) -> None:
    page = opened("run", permissions=["clipboard-read", "clipboard-write"])
    line = page.locator(".command .line").nth(2)
    line.get_by_role("button").click()
    line.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == line.locator("code").text_content()
    assert line.locator("code").text_content().startswith("gan-lab evaluate ")


@pytest.mark.parametrize("name", ["run", "hostile", "several", "empty"])
def test_on_a_phone_nothing_is_wider_than_the_screen(name: str, opened: Open) -> None:
    page = opened(name, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(
    ("name", "most_pages"),
    [
        ("run", 6),
        ("scored", 7),
        ("several", 8),
        ("latents", 6),
        ("points", 6),
        ("sweep", 3),
        ("sensitivity", 2),
    ],
)
def test_paper_has_whole_numbers_and_no_cut_tables(
    name: str, most_pages: int, opened: Open, tmp_path: Path
) -> None:
    """On A4 in portrait, also from a dark screen; nothing that needs a screen is printed."""
    page = opened(name, color_scheme="dark")
    assert find_paper_faults(page) == []
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    for control in page.locator("nav, input, .copy, .tools button, #live").all():
        assert not control.is_visible()
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    # Skia writes the objects of pages without compression
    assert 1 <= len(re.findall(rb"/Type /Page\b", pdf)) <= most_pages


def luminance(colour: str) -> float:
    """Source: WCAG 2.1, relative luminance."""
    parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_legend_of_many_scores_is_not_cut(opened: Open) -> None:
    """An svg cuts what lies outside its view box; a label there is in the text, but not seen."""
    page = opened("sensitivity", viewport={"width": 390, "height": 844})
    cut = page.evaluate(
        """(names) => {
          const isCut = (figure, name) => {
            const labels = [...figure.querySelectorAll("*")];
            const found = labels.filter((e) => e.textContent.trim() === name).pop();
            if (!found) return true;
            const inner = found.getBoundingClientRect();
            const outer = (found.closest("svg") ?? figure).getBoundingClientRect();
            const isOutside = inner.bottom > outer.bottom || inner.right > outer.right;
            return isOutside || inner.top < outer.top;
          };
          const figures = [...document.querySelectorAll("#responses figure")];
          return figures.flatMap((figure) => names.filter((name) => isCut(figure, name)));
        }""",
        [f"{measure}_lite0" for measure in SENSITIVE_MEASURES],
    )
    assert cut == []


def test_light_and_dark_have_contrast(opened: Open) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page = opened("run", color_scheme=scheme)
        value = "(name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)"
        colours = {
            name: page.evaluate(value, name)
            for name in ("ground", "sheet", "ink", "soft", "accent", "tint", "warn", "warn-tint",
                         *(f"c{i}" for i in range(8)))
        }  # fmt: skip
        texts = [
            *itertools.product(("ink", "soft", "accent"), ("ground", "sheet")),
            ("accent", "tint"),
            ("warn", "warn-tint"),
            ("soft", "warn-tint"),
        ]
        assert {pair: round(contrast(*(colours[c] for c in pair)), 2) for pair in texts
                if contrast(*(colours[c] for c in pair)) < 4.5} == {}  # fmt: skip
        assert [i for i in range(8) if contrast(colours[f"c{i}"], colours["sheet"]) < 3] == []
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("getComputedStyle(document.body).color") != grounds[-1]
    assert len(set(grounds)) == 2


def test_everything_can_be_reached_and_named_without_a_mouse(opened: Open) -> None:
    page = opened("run")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("""(() => {
                const e = document.activeElement, s = getComputedStyle(e);
                const outlined = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1;
                return `${e.tagName} ${e.id} ${outlined}`;
            })()""")
        )
    assert {"INPUT when true", "svg  true", "BUTTON  true", "SUMMARY  true"} <= reached
    assert {one for one in reached if one.endswith("false")} <= {"BODY  false"}
    assert page.locator("img:not([alt])").count() == 0
    for landmark in ("main", "navigation", "banner"):
        assert page.get_by_role(landmark).count() == 1
    assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    )


@pytest.mark.parametrize(
    "name",
    ["run", "several", "empty", "latents", "points", "translator", "sweep", "sensitivity"],
)
def test_page_has_no_accessibility_violation(name: str, opened: Open) -> None:
    """axe-core finds nothing: contrast, names, landmarks, order of headings, focusable regions."""
    page = opened(name)
    for width, scheme in itertools.product((1280, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert (width, scheme, find_violations(page)) == (width, scheme, [])


def test_values_that_look_like_code_are_text(opened: Open) -> None:
    page = opened("hostile")
    assert page.locator("#health li").text_content().count(HOSTILE) == 2
    assert page.locator("#config td", has_text=HOSTILE).first.is_visible()
    assert page.locator("[data-chart] .chart-title").text_content() == HOSTILE
    assert page.locator("script").count() == 2
    assert page.locator("img[src='x']").count() == 0
    assert (
        page.locator("path.line").get_attribute("d").count("M") == 2
    )  # around the value that is not finite
