"""A real browser for the pages, where one is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]  # fmt: skip

# Numbers that are broken over two lines, in print media; and the right edges of tables, lines of
# code and charts.
BROKEN_NUMBERS = """() => {
    const broken = [], range = document.createRange();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const numbers = /(?<![\\w.])-?\\d[\\d.,]*(e-?\\d+)?(?![\\w])/g;
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        for (const { 0: number, index } of node.textContent.matchAll(numbers)) {
            range.setStart(node, index);
            range.setEnd(node, index + number.length);
            const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
            if (lines.size > 1) broken.push(`${number} in ${node.textContent.trim().slice(0, 60)}`);
        }
    }
    return broken;
}"""
RIGHT_EDGE = """() => Math.max(...[
    ...document.querySelectorAll("table, td, th, pre code, svg, img, dd, p"),
].map((each) => {
    const range = document.createRange();
    range.selectNodeContents(each);
    return Math.max(each.getBoundingClientRect().right, range.getBoundingClientRect().right);
}))"""
# A4 without its margins of 12 mm, in CSS pixels
PAPER_WIDTH = 703


def started() -> Iterator[Any]:
    """The browser; it is closed afterwards."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def find_violations(page: Any, selector: str | None = None) -> list[str]:
    """Run axe-core on a page, or on an element; return each violated rule and its elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    return [
        f"{violation['id']}: {', '.join(node['html'][:120] for node in violation['nodes'])}"
        for violation in axe.Axe().run(page, selector).response["violations"]
    ]


def find_paper_faults(page: Any) -> list[str]:
    """Show a page as on A4 paper; list its broken numbers, and whether content is cut off."""
    page.set_viewport_size({"width": PAPER_WIDTH, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    faults: list[str] = page.evaluate(BROKEN_NUMBERS)
    edge = page.evaluate(RIGHT_EDGE)
    return faults + (
        [f"right edge at {edge:.0f} of {PAPER_WIDTH}"] if edge > PAPER_WIDTH + 1 else []
    )
