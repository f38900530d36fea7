"""The page of all runs in a browser: search, order, selection, links, phone, accessibility."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gan_lab.report import run_index
from gan_lab.runs import run_list
from gan_lab.runs.run_search import is_run_folder
from tests.helpers.browser import find_violations, needs_chromium, started
from tests.helpers.pictures import noise
from tests.helpers.reports import HOSTILE, written_run

pytestmark = needs_chromium
browser = pytest.fixture(started, scope="module")


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of eight runs, in a folder whose name needs quotes."""
    root = tmp_path_factory.mktemp("lab") / "my runs & 'more'"
    for i, experiment in enumerate(("cgan", "dcgan", "cgan", "gan")):
        folder = root / experiment / f"seed{i}"
        written_run(folder, f"run.seed={i}", experiment=experiment, distance=9.0 - i, ended=i != 3)
        (folder / "checkpoints").mkdir()
        noise(200, 300, seed=i).save(folder / "samples" / "000000256.png")
        (folder / "report.html").write_text(f"<title>page of {i}</title>", encoding="utf-8")
    (root / "gan" / "seed3" / "report.html").unlink()
    (root / "gan" / "seed3" / "samples" / "000000256.png").write_text("no image")
    damaged = shutil.copytree(root / "gan" / "seed3", root / "gan" / "damaged")
    (damaged / "config.yaml").write_text(f"family: [{HOSTILE}")
    return run_index.write_index(run_list.list_runs(root), root)


@pytest.fixture
def opened(browser: Any, page_path: Path) -> Iterator[Any]:
    """Opens the page; nothing may be said on the console, thrown, or loaded from elsewhere."""
    faults: list[str] = []
    contexts = []

    def load(**options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda request: faults.append(request.url)
               if not request.url.startswith(("data:", "file:")) else None)  # fmt: skip
        tab.goto(page_path.as_uri())
        return tab

    yield load
    for context in contexts:
        context.close()
    assert faults == []


def names(tab: Any) -> list[str]:
    """The runs that are shown, in order."""
    return [str(text).strip() for text in tab.locator("li.run:visible h3").all_inner_texts()]


def test_index_searches_sorts_and_links(opened: Any, page_path: Path) -> None:
    tab = opened()
    assert len(names(tab)) == 5
    tab.fill("#runs-search", "cgan fin")
    assert set(names(tab)) == {"cgan/seed0", "cgan/seed2"}
    assert tab.text_content("#runs-count") == "2 runs"
    tab.select_option("#runs-sort", "score")
    assert names(tab) == ["cgan/seed2", "cgan/seed0"]
    tab.select_option("#runs-sort", "name")
    assert names(tab) == ["cgan/seed0", "cgan/seed2"]
    tab.fill("#runs-search", "nothing")
    assert tab.is_visible("#runs-none")
    tab.fill("#runs-search", "")
    tab.select_option("#runs-status", "damaged")
    assert names(tab) == ["gan/damaged"]
    tab.select_option("#runs-status", "")
    # a run without a page has no link, and one without a readable grid no picture
    assert tab.locator("li.run a").count() == tab.locator("li.run img").count() == 3
    tab.click("text=dcgan/seed1")
    assert tab.title() == "page of 1"
    assert "dcgan/seed1/report.html" in tab.url


def test_index_selection_gives_commands_of_the_shell(opened: Any, page_path: Path) -> None:
    """The paths are quoted for a shell, in the order of the page, and can be cleared."""
    tab = opened()
    tab.select_option("#runs-sort", "name")
    boxes = tab.locator("input.choose-run")
    assert boxes.count() == 4
    boxes.nth(0).check()
    assert not tab.is_visible("#compare-commands")
    boxes.nth(2).check()
    assert tab.is_visible("#compare-commands")
    for command in ("report", "compare"):
        text = tab.text_content(f'[data-command="gan-lab {command}"]')
        program, name, *paths = shlex.split(text)
        assert (program, name) == ("gan-lab", command)
        assert len(paths) == 2
        assert all(Path(path).parents[1] == page_path.parent for path in paths)
        assert all(is_run_folder(Path(path)) for path in paths)
    tab.click("#compare-clear")
    assert not tab.is_visible("#compare-commands")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_index_is_accessible_and_fits(opened: Any, scheme: str, width: int) -> None:
    tab = opened(color_scheme=scheme, viewport={"width": width, "height": 800})
    tab.locator("input.choose-run").nth(0).check()
    tab.locator("input.choose-run").nth(1).check()
    assert find_violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # large enough for a finger
    heights = tab.locator("label.choose").evaluate_all("all => all.map((e) => e.offsetHeight)")
    assert min(heights) >= 40


def test_index_of_a_hundred_runs_is_usable_on_a_phone(
    browser: Any, page_path: Path, tmp_path: Path
) -> None:
    """It fits the width, finds one of them, and has the picture of the last one."""
    for i in range(100):
        shutil.copytree(page_path.parent / "cgan" / "seed0", tmp_path / "cgan" / f"copy{i:02d}")
    path = run_index.write_index(run_list.list_runs(tmp_path), tmp_path)
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.set_default_timeout(10_000)
    tab.goto(path.as_uri())
    assert len(names(tab)) == 100
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    last = tab.locator("li.run img").last
    last.scroll_into_view_if_needed()
    assert last.evaluate("e => e.decode().then(() => e.naturalWidth)") > 0
    tab.fill("#runs-search", "copy42")
    assert names(tab) == ["cgan/copy42"]
    tab.close()


def test_write_index_keeps_foreign_file(page_path: Path, tmp_path: Path) -> None:
    """A second page replaces the first one; a page that the user edited stays."""
    root = tmp_path / "runs"
    shutil.copytree(page_path.parent / "cgan", root / "cgan")
    found = run_list.list_runs(root)
    path = run_index.write_index(found, root)
    run_index.write_index(found, root)
    path.write_text("mine")
    with pytest.raises(ValueError, match="is not output of gan-lab"):
        run_index.write_index(found, root)
    assert path.read_text() == "mine"
