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
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


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
