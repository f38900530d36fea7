"""A published run is a folder that has everything, whatever the hub says to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import constants
from PIL import Image
from playwright.sync_api import Error as PlaywrightError

from gan_lab import load_generator
from gan_lab.config import loading
from gan_lab.images import to_uint8, to_unit
from gan_lab.inference import publish as publishing
from gan_lab.inference.export import FORMATS
from gan_lab.inference.publish import publish
from gan_lab.inference.translation import TrainedTranslator
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.training.warm_start import find_start
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE
from gan_lab.utils.output import list_visible
from tests.helpers import processes
from tests.helpers.browser import needs_chromium, started
from tests.helpers.families import small
from tests.helpers.folders import run_folder
from tests.helpers.hub_server import Hub, serving
from tests.helpers.pictures import noise

PIXELS = """() => { const c = document.getElementById("gan");
  return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]; }"""

PAGE_FILES = {"index.html", "generator.js"}
FILES = {"README.md", "config.json", "generator.safetensors", "samples.png", *PAGE_FILES}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    root = tmp_path_factory.mktemp("runs")
    words = small(
        "cgan", root, data_root, "run.images=32", "run.evaluate_every_images=32", "run.id=r"
    )
    assert processes.train("cgan", words, root / "log") == 0, (root / "log").read_text()
    return root / "cgan" / "r"


@pytest.fixture
def sent(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Publish to a hub and to no other, without the seconds that it takes to write the folder."""

    def write(run: Path, folder: Path, *_: object) -> None:
        folder.mkdir(exist_ok=True)
        (folder / ".DS_Store").touch()
        for name in FILES:
            (folder / name).write_bytes(f"the content of {name}".encode() * 100)

    def send(hub: Hub, token: str | None) -> str:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(run / "no token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        return publish(run, "hf:me/faces")

    monkeypatch.setattr(publishing, "write", write)
    return send


def test_published_folder_has_export_page_picture_and_card(
    run: Path, data_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert publish(run, str(folder)) == str(folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert torch.equal(load_generator(folder)(4), load_generator(run)(4))
    assert (folder / "samples.png").read_bytes() == (run / "samples" / "000000032.png").read_bytes()
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert '"steps":' in page  # the generator's operations
    # training images only on request
    assert "Contact sheet of real training images" not in page
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "](samples.png)" in card
    assert "[index.html](index.html)" in card
    assert "sdk: static" in card.split("---")[1]  # a static Space as it is
    assert f"data.root={data_root.name}" in card
    publish(run, str(folder), reals=True)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Contact sheet of real training images" in page
    assert publish(run, str(folder), page=False) == str(folder)  # again, at the same path
    assert {path.name for path in folder.iterdir()} == FILES - PAGE_FILES
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert not any(name in card for name in ("index.html", "generator.js", "sdk:"))
    (folder / "mine.png").touch()
    with pytest.raises(ValueError, match=r"is not empty: mine\.png is not output of gan-lab"):
        publish(run, str(folder))


@pytest.mark.parametrize("weights", ["last", "raw"])
def test_published_page_and_card_have_chosen_weights(
    weights: str, data_root: Path, tmp_path: Path
) -> None:
    """The page, its script and the export are of one checkpoint, and the card names its kind."""
    run = run_folder("gan", tmp_path / "gan", data_root)
    folder = tmp_path / "out"
    publish(run, str(folder), weights=weights)
    chosen = load_ema_networks(run, weights).describe_source()
    for name in PAGE_FILES:
        assert chosen["digest"] in (folder / name).read_text(encoding="utf-8")
    assert load_ema_networks(folder).compute_digest() == chosen["digest"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    kind = "raw weights (without EMA)" if weights == "raw" else "EMA weights"
    assert f": {kind} after 2 iterations" in card


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a folder, and the members of archives such as .pt2."""
    for path in folder.iterdir():
        yield path.name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    yield f"{path.name}/{member}", archive.read(member)


@pytest.mark.parametrize("format", FORMATS)
def test_published_files_contain_no_path_of_this_machine(
    run: Path, data_root: Path, tmp_path: Path, format: str
) -> None:
    """No file says where the lab, its packages, the run, the data or the folder are."""
    folder = tmp_path / "published"
    publish(run, str(folder), format)
    packages = Path(torch.__file__).parents[1]
    paths = [PACKAGE.parent, packages, sys.prefix, run.parent.parent, data_root, tmp_path]
    names = []
    for name, content in contents(folder):
        names.append(name)
        assert not [path for path in paths if str(path).encode() in content], name
        assert not re.search(rb"[\w.-]+/(gan_lab|torch)/[\w/]+\.py", content), name
    ending = {"safetensors": ".safetensors", "torch": "model.json", "onnx": ".onnx"}[format]
    assert any(name.endswith(ending) for name in names)


def test_the_hub_gets_what_the_folder_holds_by_its_own_client(
    run: Path, sent: Callable[..., str]
) -> None:
    with serving(Hub("hf_secret")) as hub:
        assert sent(hub, "hf_secret") == f"{hub.address}/me/faces"
    assert [(each["organization"], each["name"]) for each in hub.created] == [("me", "faces")]
    assert hub.files == {name: (run / "publish" / name).read_bytes() for name in FILES}


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "No Hugging Face token: hf:me/faces. Set HF_TOKEN or call `hf auth login`"),
        ("another", "Upload failed: hf:me/faces: .*403"),
    ],
)
def test_publish_without_token_sends_nothing_and_keeps_folder(
    run: Path, sent: Callable[..., str], token: str | None, reason: str
) -> None:
    with (
        serving(Hub("hf_secret")) as hub,
        pytest.raises(ValueError, match=f"^{reason}") as raised,
    ):
        sent(hub, token)
    assert len(str(raised.value).splitlines()) == 1
    assert f"{run / 'publish'} is complete" in str(raised.value)
    assert list_visible(run / "publish") == FILES
    assert (hub.created, hub.files) == ([], {})


def test_where_nobody_answers_the_folder_is_ready(run: Path, sent: Callable[..., str]) -> None:
    nobody = Hub("hf_secret")
    nobody.address = "http://127.0.0.1:9"
    with pytest.raises(ValueError, match=r"^Upload failed: hf:me/faces: .* is complete$"):
        sent(nobody, "hf_secret")


def test_a_name_that_is_none_and_a_missing_package_are_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ValueError, match=r"^Invalid address of a model: hf:faces\. Write hf:owner/name\.$"
    ):
        publish(run, "hf:faces")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr(publishing, "write", lambda *_: None)
    with pytest.raises(
        ValueError, match="the package huggingface_hub is not installed: pip install"
    ):
        publish(run, "hf:me/faces")


def test_hub_download_needs_no_other_import() -> None:
    """The hub's package has no attribute ``constants`` until something imports it."""
    code = "from gan_lab.runs.hub import download_export; download_export('hf:me/nothing')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError: hf:me/nothing cannot be downloaded from the Hub: " in last


def test_a_published_generator_is_loaded_from_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hub's own client, from a loopback hub; then without it, from the cache."""
    folder, hub = tmp_path / "out", Hub("hf_secret")
    publish(run, str(folder), page=False)
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(hub):
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        loaded = load_generator("hf:me/faces")
        assert torch.equal(loaded(4, seed=3), load_generator(run)(4, seed=3))
        kept = {
            path.name
            for path in (tmp_path / "cache" / "gan-lab").rglob("*")
            if path.is_file() and ".cache" not in path.parts
        }
        assert kept == {
            "config.json",
            "generator.safetensors",
        }  # nothing else of a foreign repository is fetched
        config = loading.load("dcgan", ["run.start_from=hf:me/faces"]).config
        assert find_start(config) == tmp_path / "cache" / "gan-lab" / "me--faces" / "config.json"
        with pytest.raises(UserError, match=r"^hf:me/nothing cannot be downloaded from the Hub: "):
            load_generator("hf:me/nothing")
    assert isinstance(loaded, torch.nn.Module)
    assert not any(weight.requires_grad for weight in loaded.parameters())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(load_generator("hf:me/faces")(4, seed=3), loaded(4, seed=3))
    with pytest.raises(
        UserError, match=r"^Invalid address of a model: hf:faces\. Write hf:owner/name\.$"
    ):
        load_generator("hf:faces")


def test_revisions_of_a_generator_are_kept_apart(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch with other weights has a folder of its own, also offline and in a warm start."""
    publish(run, str(tmp_path / "out"), page=False)
    hub = Hub("hf_secret")
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    weights = safetensors.torch.load(hub.files["generator.safetensors"])
    doubled = {name: value * 2 for name, value in weights.items()}
    other = {"generator.safetensors": safetensors.torch.save(doubled)}
    hub.revisions["try/2"] = hub.files | other
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(hub):
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        for address in ("hf:me/faces", "hf:me/faces@try/2"):
            load_generator(address)
        with pytest.raises(UserError, match=r"^hf:me/faces@none cannot be downloaded from the Hub"):
            load_generator("hf:me/faces@none")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for address, expected in (("hf:me/faces", weights), ("hf:me/faces@try/2", doubled)):
        loaded = load_generator(address).state_dict()
        found = {name.removeprefix("network."): value for name, value in loaded.items()}
        for name, value in expected.items():
            assert torch.equal(found[name], value), name
    config = loading.load("dcgan", ["run.start_from=hf:me/faces@try/2"]).config
    folder = tmp_path / "cache" / "gan-lab" / "me--faces@try%2F2"
    assert find_start(config) == folder / "config.json"
    for address in ("hf:me/faces@", "hf:me/faces@-x", "hf:me/faces@a b"):
        with pytest.raises(UserError, match=f"^Invalid revision of a model: {address}"):
            load_generator(address)
    with pytest.raises(UserError, match="Invalid address of a model"):
        publish(run, "hf:me/faces@try/2")


browser = pytest.fixture(started, scope="module")


@needs_chromium
def test_published_page_and_snippet_run_in_a_browser(
    run: Path, browser: Any, tmp_path: Path
) -> None:
    """The ten lines of the card, in a page of a user, draw what ``gan-lab sample`` draws."""
    folder = tmp_path / "site"
    publish(run, str(folder))
    card = (folder / "README.md").read_text(encoding="utf-8")
    snippet = card.partition("```html\n")[2].partition("```")[0]
    assert len(snippet.splitlines()) <= 10
    (folder / "mine.html").write_text(f"<!doctype html><title>mine</title>{snippet}")
    tab = browser.new_page()
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    generator = load_generator(run)
    tab.goto((folder / "mine.html").as_uri())
    for seed in (0, 1):
        expected = to_uint8(generator(1, 0, seed))[0].expand(3, -1, -1).permute(1, 2, 0)
        drawn = torch.tensor(tab.evaluate(PIXELS)).view(28, 28, 4)[..., :3]
        assert (drawn - expected.int()).abs().max() <= 1
        tab.click("#next")
    # a class by name, and errors that say what is possible
    named = "ganLab.draw(document.getElementById('gan'), { seed: 3, label: '7', truncation: 0.5 })"
    tab.evaluate(named)
    expected = to_uint8(generator(1, "7", 3, truncation=0.5))[0].expand(3, -1, -1).permute(1, 2, 0)
    drawn = torch.tensor(tab.evaluate(PIXELS)).view(28, 28, 4)[..., :3]
    assert (drawn - expected.int()).abs().max() <= 1
    for options in ("{ seed: -1 }", "{ seed: 0.5 }", "{ label: 'cat' }", "{ label: 10 }"):
        with pytest.raises(PlaywrightError, match=r"out of range|unknown label"):
            tab.evaluate(f"ganLab.draw(document.getElementById('gan'), {options})")
    assert faults == []
    tab.goto((folder / "index.html").as_uri())
    tab.wait_for_selector("#live[aria-busy=false]", state="attached")
    assert faults == []
    tab.close()


@needs_chromium
def test_published_translator_snippet_translates_a_file(
    browser: Any, data_root: Path, tmp_path: Path
) -> None:
    run, folder = run_folder("pix2pix", tmp_path / "runs", data_root), tmp_path / "site"
    publish(run, str(folder))
    snippet = (folder / "README.md").read_text().partition("```html\n")[2].partition("```")[0]
    assert len(snippet.splitlines()) <= 10
    (folder / "mine.html").write_text(f"<!doctype html><title>mine</title>{snippet}")
    noise(28, 28).convert("L").save(tmp_path / "photo.png")
    tab = browser.new_page()
    tab.goto((folder / "mine.html").as_uri())
    tab.set_input_files("#photo", tmp_path / "photo.png")
    tab.wait_for_function("document.getElementById('gan').width === 28")
    drawn = torch.tensor(tab.evaluate(PIXELS)).view(28, 28, 4)[..., :3]
    photo = torch.from_numpy(np.array(Image.open(tmp_path / "photo.png")))[None, None]
    expected = to_uint8(TrainedTranslator(run)(to_unit(photo)))[0].expand(3, -1, -1)
    assert (drawn - expected.permute(1, 2, 0).int()).abs().max() <= 1
    tab.close()
