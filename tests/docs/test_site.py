"""The documentation builds without warnings and needs no network; its links and files exist."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import gan_lab
from tests.helpers.browser import find_paper_faults, find_violations, needs_chromium, started

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    REPOSITORY / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")
] + sorted((REPOSITORY / "docs").rglob("*.md"))
MAX_README_LINES = 160
# Tags that make a browser load a file.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once; any warning, such as a broken link, fails here."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs"]
    finished = subprocess.run(
        [*command, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return folder


@needs_chromium
@pytest.mark.slow
def test_site_has_no_accessibility_violation(site: Path) -> None:
    """axe-core finds nothing in our own content; Furo's navigation is not ours."""
    schemes: tuple[Any, ...] = ("light", "dark")
    with contextmanager(started)() as browser:
        page = browser.new_page()
        for name in ("index", "studies/optimum", "studies/requested_digit", "configuration"):
            page.goto((site / f"{name}.html").as_uri())
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                assert (name, scheme, find_violations(page, "article")) == (name, scheme, [])


@needs_chromium
@pytest.mark.slow
def test_study_on_paper_is_whole(site: Path) -> None:
    """Tables of results stay on the paper, numbers in one line; the link to skip is not printed."""
    with contextmanager(started)() as browser:
        page = browser.new_page()
        for name in ("few_images", "conditioning"):
            page.goto((site / "studies" / f"{name}.html").as_uri())
            assert (name, find_paper_faults(page)) == (name, [])
            assert not page.locator(".skip-to-content").is_visible()


@pytest.mark.slow
def test_site_builds_strictly_and_offline(site: Path) -> None:
    """Sphinx reports no warning, such as a broken link, and no page loads from another server."""
    pages = {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }
    assert {
        "index.html",
        "search.html",
        "reference.html",
        "methods/cgan.html",
        "studies/optimum.html",
    } <= pages.keys()
    external = [name for name, text in pages.items() if LOADED.search(text)]
    assert not external, f"pages that load from other servers: {external}"
    assert {
        name for name in gan_lab.__all__ if f"gan_lab.{name}" not in pages["reference.html"]
    } == set()
    assert "GANDataModule" in pages["reference.html"]
    assert 'data-theme="auto"' in pages["index.html"] or "theme-toggle" in pages["index.html"]
    assert "precision" in (site / "searchindex.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)
def test_relative_links_lead_to_files(document: Path) -> None:
    """Links work on GitHub too, where the files are read one by one."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"`[^`\n]*`", "", text))
    missing = [
        t
        for t in targets
        if "://" not in t and not t.startswith("mailto:") and not (document.parent / t).exists()
    ]
    assert not missing


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)
def test_code_files_named_in_prose_exist(document: Path) -> None:
    """A path such as gan_lab/losses.py in the documentation survives no renaming of the file."""
    text = document.read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/.<])((?:gan_lab|tests|scripts|configs|studies|benchmarks)/[\w/.]+\.(?:py|yaml|sh|json))",
        text,
    )
    missing = sorted({name for name in named if not (REPOSITORY / name).exists()})
    assert not missing
    if document.name == "metrics.md":
        modules = re.findall(r"^\| `(\w+\.py)`", text, flags=re.MULTILINE)
        assert modules
        assert not [
            name for name in modules if not (REPOSITORY / "gan_lab" / "metrics" / name).exists()
        ]


def test_readme_is_short() -> None:
    """The README is an overview; details belong into docs/."""
    assert (
        len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
    )


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)
def test_no_document_installs_from_an_index(document: Path) -> None:
    """The distribution is on no index, so its name there could belong to anyone."""
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"(?:pip|uv|pipx)[^\n`]*install[^\n`]*lightning-gan-lab", text)


def test_make_targets_in_documentation_exist() -> None:
    """Every `make NAME` in the documentation is a target of the Makefile."""
    targets = set(
        re.findall(
            r"^([a-z-]+):",
            (REPOSITORY / "Makefile").read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    )
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^    |`)make ([a-z][a-z-]*)", text, flags=re.MULTILINE))
        assert named <= targets, f"{document}: {sorted(named - targets)}"


def test_citation_has_version_of_package() -> None:
    """CITATION.cff and the BibTeX entry name the version that the package has."""
    assert f"\nversion: {gan_lab.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(
        encoding="utf-8"
    )
    assert f"version = {{{gan_lab.__version__}}}" in (REPOSITORY / "docs" / "citing.md").read_text(
        encoding="utf-8"
    )


def test_citation_and_changelog_agree_on_release() -> None:
    """Until a version has a section in the changelog, both call it a development version."""
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    changelog = " ".join((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").split())
    (date,) = re.findall(r"^date-released: (\S+)$", citation, flags=re.MULTILINE)
    is_released = f"## [{gan_lab.__version__}] - {date}" in changelog
    named = f"{gan_lab.__version__} is the development version of {date}" in changelog
    assert named == (not is_released)
    assert ("development version" in citation) == (not is_released)


def test_prose_check_passes() -> None:
    """No checked file has an expression of scripts/check_prose.py."""
    check = runpy.run_path(str(REPOSITORY / "scripts" / "check_prose.py"))
    files = check["list_checked_files"]()
    assert {"README.md", "getting-started.md", "cgan.md"} <= {path.name for path in files}
    found = [
        f"{path}:{number}: {words}"
        for path in files
        for number, words, _ in check["find_words"](path)
    ]
    assert not found


def test_prose_check_finds_words_in_prose_only(tmp_path: Path) -> None:
    """Prose and comments next to commands are read; code, link targets and commands are not."""
    check = runpy.run_path(str(REPOSITORY / "scripts" / "check_prose.py"))
    page = tmp_path / "page.md"
    page.write_text(
        "The run goes\non, so many images [beside](colour.md) it, as `told.anew` says.\n\n"
        "    make train ARGS=anew    # drawn anew\n\n"
        "- text\n    - a nested item has no room\n",
        encoding="utf-8",
    )
    found = {words: number for number, words, _ in check["find_words"](page)}
    assert found == {
        "goes on": 1,
        "so many": 2,
        "beside": 2,
        "anew": 4,
        "drawn anew": 4,
        "has no room": 7,
    }
    code = tmp_path / "code.py"
    code.write_text('anew = "it is told"  # somebody\n', encoding="utf-8")
    assert [words for _, words, _ in check["find_words"](code)] == ["told", "somebody"]
    template = tmp_path / "page.html"
    template.write_text("<p id=anew>{{ anew }} it is told</p>\n", encoding="utf-8")
    script = tmp_path / "page.js"
    script.write_text("const anew = 1; // somebody\n", encoding="utf-8")
    assert [words for _, words, _ in check["find_words"](template)] == ["told"]
    assert [words for _, words, _ in check["find_words"](script)] == ["somebody"]


def test_prose_check_reads_studies_except_for_frozen_text(tmp_path: Path) -> None:
    """Claim and prediction are hashed; titles, conclusions and notebooks can be reworded."""
    check = runpy.run_path(str(REPOSITORY / "scripts" / "check_prose.py"))
    study = tmp_path / "studies" / "a.yaml"
    study.parent.mkdir()
    study.write_text(
        "title: Drawn anew\nclaim: told\nprediction: >-\n  it is told\n"
        "known_before: >-\n  x\n  beside it\n",
        encoding="utf-8",
    )
    assert sorted(check["find_words"](study)) == [
        (1, "Drawn anew", "newly initialized, from scratch"),
        (1, "anew", "newly initialized, resampled, again"),
        (7, "beside", "next to, in addition to"),
    ]
    conclusion = tmp_path / "full.conclusion.json"
    conclusion.write_text('{"verdict": "told", "text": "It is beside it."}', encoding="utf-8")
    assert [words for _, words, _ in check["find_words"](conclusion)] == ["beside"]
    notebook = tmp_path / "a.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["It is\n", "told."]},
        {"cell_type": "code", "source": ["told = 1  # anew"]},
    ]
    notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert [each[:2] for each in check["find_words"](notebook)] == [(1, "told"), (2, "anew")]
    makefile = tmp_path / "Makefile"
    makefile.write_text("told:  ## drawn anew\n", encoding="utf-8")
    assert {words for _, words, _ in check["find_words"](makefile)} == {"anew", "drawn anew"}


def test_prose_check_accepts_stored_strings_only_as_a_whole(tmp_path: Path) -> None:
    """Keys of saved results keep their spelling, but the same word in a message is found."""
    check = runpy.run_path(str(REPOSITORY / "scripts" / "check_prose.py"))
    code = tmp_path / "code.py"
    lines = ['value = protocol["floor"]', 'name = f"neighbours.png"', 'text = "the floor is 1"']
    code.write_text("\n".join(lines), encoding="utf-8")
    assert [(number, words) for number, words, _ in check["find_words"](code)] == [(3, "floor")]


@needs_chromium
def test_demo_without_runs_is_a_shipped_generator(tmp_path: Path) -> None:
    """A site that was built without a training has a demo too, which draws the model's images."""
    configuration = runpy.run_path(str(REPOSITORY / "docs" / "conf.py"))
    add_demo = configuration["add_demo"]
    add_demo.__globals__["EXTRA"] = tmp_path / "none"
    source = [configuration["DEMO"]]
    add_demo(None, "demo", source)
    shown = configuration["render_zoo_demo"](tmp_path / "demo")
    assert f'data-run="{shown.stem}"' in source[0]
    generator = gan_lab.load_generator("zoo:digits")
    with contextmanager(started)() as browser:
        page = browser.new_page()
        page.goto(shown.as_uri())
        for label in ("0", "7"):
            page.select_option("#label", label)
            pixels = page.eval_on_selector(
                "#gan",
                "gan => [...gan.getContext('2d').getImageData(0, 0, gan.width, gan.height).data]",
            )
            expected = (generator(1, label=int(label), seed=0)[0, 0] + 1) * 127.5
            drawn = torch.tensor(pixels[::4], dtype=torch.float32).reshape(expected.shape)
            assert float((drawn - expected).abs().max()) <= 2
        assert find_violations(page, "body") == []


@needs_chromium
def test_demo_loads_page_of_run_on_click(tmp_path: Path) -> None:
    """A demo run has a button; its page, which is large, is loaded by a click and not before."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "cgan.html").write_text("<p id=run>a generator</p>", encoding="utf-8")
    configuration = runpy.run_path(str(REPOSITORY / "docs" / "conf.py"))
    add_demo = configuration["add_demo"]
    add_demo.__globals__["EXTRA"] = tmp_path
    source = ["<section id=demo>" + configuration["DEMO"] + "</section>"]
    add_demo(None, "demo", source)
    (tmp_path / "demo.html").write_text(source[0], encoding="utf-8")
    with contextmanager(started)() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "demo.html").as_uri())
        assert page.locator("button").count() == 1
        assert len(page.frames) == 1 or page.frames[1].url in ("", "about:blank")
        page.click("button")
        assert page.frame_locator("iframe").locator("#run").inner_text() == "a generator"
