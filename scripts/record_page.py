"""Record the pictures of the report page in README and docs, in Chromium.

    make train EXP=cgan ARGS="data.source=sample"
    .venv/bin/python scripts/record_page.py runs/cgan/data.source=sample-seed0

docs/live_page.gif shows the generator of the page while its controls move; docs/report.png shows
the top of the page. The run must be class-conditional.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from gan_lab import report
from gan_lab.runs.run import Run

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 760
REPORT_SIZE = (1040, 1560)
CLASS_MS, SLIDER_MS, PAUSE_MS = 350, 90, 900
COLORS = 64
SET_SLIDER = """(input, value) => {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""


def main() -> None:
    """Record both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pictures")
    arguments = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        parser.error("Chromium is not installed. Install it, for example: apt install chromium")
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        page_path = report.write([Run(arguments.run)], Path(folder) / "page.html")
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        size = {"width": REPORT_SIZE[0], "height": REPORT_SIZE[1]}
        page = browser.new_page(viewport=size, color_scheme="light")
        page.goto(page_path.resolve().as_uri())
        wait_for_images(page)
        page.screenshot(path=arguments.out / "report.png")
        page.set_viewport_size({"width": WIDTH, "height": 900})
        save_gif(record_controls(page), arguments.out / "live_page.gif")


def wait_for_images(page: Any) -> None:
    """Wait until the generator has drawn what was requested last."""
    page.wait_for_selector("#live[aria-busy=false]", state="attached")


def record_controls(page: Any) -> Iterator[tuple[Image.Image, int]]:
    """Move the controls; yield a screenshot after each step, with its duration in ms."""
    stage = page.locator("#live .live")
    stage.scroll_into_view_if_needed()

    def take(duration: int) -> tuple[Image.Image, int]:
        wait_for_images(page)
        return Image.open(io.BytesIO(stage.screenshot())).convert("RGB"), duration

    for button in page.locator("button.class").all():
        button.click()
        yield take(CLASS_MS)
    slider = page.locator("input.direction").first
    for value in [*range(0, 9), *range(8, -9, -1), *range(-8, 1)]:
        slider.evaluate(SET_SLIDER, value / 2)
        yield take(SLIDER_MS)
    keep_a, keep_b = page.locator("button.end").all()
    keep_a.click()
    page.locator("button.class").nth(3).click()
    page.locator("#live-seed").fill("7")
    keep_b.click()
    yield take(PAUSE_MS)
    for step in range(21):
        page.locator("#live-way").evaluate(SET_SLIDER, step / 20)
        yield take(SLIDER_MS)
    yield take(PAUSE_MS)


def save_gif(frames: Iterator[tuple[Image.Image, int]], path: Path) -> None:
    """Save frames as an endless GIF, with one palette so that unchanged pixels stay equal."""
    images, durations = zip(*frames, strict=True)
    palette = images[0].quantize(COLORS)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(path, save_all=True, append_images=others, duration=list(durations), loop=0)


if __name__ == "__main__":
    main()
