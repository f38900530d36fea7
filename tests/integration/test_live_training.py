"""A training that is watched: grids and pages change nothing, and a killed run is usable."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gan_lab
from gan_lab.config import loading
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.training import loop
from gan_lab.training.callbacks import grid_schedule
from tests.helpers.families import small
from tests.helpers.processes import start
from tests.integration.test_cli import answer
from tests.integration.test_resume import equal

TIMEOUT_S = 60


def watch_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a grid and write a page after each iteration."""
    monkeypatch.setattr(grid_schedule, "FIRST_GRID_S", 0.0)
    monkeypatch.setattr(grid_schedule, "GRID_INTERVAL_S", 0.0)
    monkeypatch.setattr(grid_schedule, "MAX_COST_SHARE", 1e9)


def read_data(page: Path) -> dict[str, Any]:
    """Read the data of a page's script."""
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_watched_training_has_the_weights_of_an_unwatched_one(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grids and pages after each iteration leave checkpoints and scores bit-equal."""
    monkeypatch.setattr(loop, "evaluate_all", lambda *_: None)
    pages: list[dict[str, Any]] = []
    write_live = gan_lab.report.write_live

    def keep_data(folder: Path, *arguments: Any) -> Path:
        page = write_live(folder, *arguments)
        pages.append(read_data(page))
        return page

    monkeypatch.setattr(gan_lab.report, "write_live", keep_data)
    # dropout draws from torch's generator
    words = small("gan", tmp_path, data_root, "model.dropout=0.3", "run.images=128")
    words += ["run.evaluate_every_images=64"]
    overrides = [*words, "run.id=alone", "log.live_page=false"]
    assert loop.train(loading.load("gan", overrides), overrides) == 0
    assert pages == []
    watch_everything(monkeypatch)
    overrides = [*words, "run.id=watched"]
    assert loop.train(loading.load("gan", overrides), overrides) == 0
    alone, watched = (tmp_path / "gan" / run_id for run_id in ("alone", "watched"))
    for name in ("last", "best"):
        a, b = (read_checkpoint(run / "checkpoints" / f"{name}.ckpt") for run in (alone, watched))
        assert all(equal(a[part], b[part]) for part in ("state_dict", "optimizer_states", "ema"))
    assert (alone / "metrics.csv").read_bytes() == (watched / "metrics.csv").read_bytes()
    grids = sorted(int(path.stem) for path in (watched / "samples").glob("*.png"))
    assert {16, 32, 64, 128} <= set(grids)
    # each page has the grids so far, and the generator of that moment
    assert [page["seen"][-1] for page in pages] == [n for n in grids if n > 0]
    weights = [page["models"][0]["networks"]["generator"]["weights"] for page in pages]
    assert len(set(weights)) == len(weights)
    assert all(page["reload"] for page in pages)
    assert read_data(watched / "report.html")["reload"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_page_of_stopped_training_does_not_reload(
    number: signal.Signals, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a signal the page is that of an unfinished run, and the exit code is the signal's."""
    watch_everything(monkeypatch)
    write_live = gan_lab.report.write_live
    pages: list[bool] = []

    def write_and_stop(folder: Path, *arguments: Any) -> Path:
        page = write_live(folder, *arguments)
        # a second Ctrl-C would stop immediately
        if not pages:
            os.kill(os.getpid(), number)
        pages.append(gan_lab.report.is_live(folder))
        return page

    monkeypatch.setattr(gan_lab.report, "write_live", write_and_stop)
    overrides = small("gan", tmp_path, data_root, "run.images=128", "run.id=stopped")
    assert loop.train(loading.load("gan", overrides), overrides) == 128 + number
    folder = tmp_path / "gan" / "stopped"
    assert pages
    assert all(pages)
    assert not gan_lab.report.is_live(folder)
    assert read_data(folder / "report.html")["reload"] is None


def test_error_of_page_stops_no_training(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk disables the page with one warning."""
    watch_everything(monkeypatch)
    monkeypatch.setattr(loop, "conclude", lambda *_: None)
    calls = []

    def fail(*_: object) -> Path:
        calls.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gan_lab.report, "write_live", fail)
    overrides = small("gan", tmp_path, data_root, "run.images=64", "run.id=full")
    with pytest.warns(UserWarning, match="report page is not updated .*No space left"):
        assert loop.train(loading.load("gan", overrides), overrides) == 0
    assert calls == [1]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Callable[[str], Path]:
    """Run folders of trainings that were killed before their first evaluation."""
    root = tmp_path_factory.mktemp("killed")

    def kill(family: str) -> Path:
        folder = root / family / "killed"
        if not folder.exists():
            words = small(family, root, data_root, "run.images=1_000_000", "run.id=killed")
            words += ["run.evaluate_every_images=1_000_000"]
            process = start(family, words, root / "log")
            deadline = time.monotonic() + TIMEOUT_S
            while not (folder / "checkpoints" / "last.ckpt").exists():
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.02)
            process.kill()
            process.join()
        assert not (folder / "checkpoints" / "best.ckpt").exists()
        return folder

    return kill


USES = [
    ("gan", ["sample", "RUN", "--n", "2"]),
    ("gan", ["export", "RUN"]),
    ("gan", ["project", "RUN", "--n", "1"]),
    ("gan", ["report", "RUN"]),
    ("gan", ["evaluate", "RUN"]),
    ("vaegan", ["reconstruct", "RUN", "--n", "2"]),
    ("pix2pix", ["translate", "RUN", "IN", "OUT"]),
]


@pytest.mark.parametrize(("family", "command"), USES, ids=[command[0] for _, command in USES])
def test_killed_run_is_usable_by_every_command(
    family: str,
    command: list[str],
    killed: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without best.ckpt, a command uses the newest checkpoint and says so."""
    Image.new("L", (28, 28), 99).save(tmp_path / "in.png")
    names = {
        "RUN": str(killed(family)),
        "IN": str(tmp_path / "in.png"),
        "OUT": str(tmp_path / "out"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, said = answer(capsys, monkeypatch, *(names.get(word, word) for word in command))
    assert code == 0, said
    assert "has no best.ckpt" in said
    assert "Using the newest checkpoint, last.ckpt" in said


def test_weights_name_the_same_checkpoint_everywhere(killed: Callable[[str], Path]) -> None:
    """last and its number of images are equal; raw differs; another number names the choices."""
    folder = killed("gan")
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    images = 16 * last["iteration"]
    run = gan_lab.open_run(folder)
    by_name = {weights: run.sample(2, weights=weights) for weights in ("last", "raw", str(images))}
    assert torch.equal(by_name["last"], by_name[str(images)])
    raw = gan_lab.load_generator(folder, "raw", exact=True).network.state_dict()
    assert all(
        torch.equal(value, last["state_dict"][f"generator.{name}"].double())
        for name, value in raw.items()
        if value.is_floating_point()
    )
    assert not torch.equal(by_name["raw"], by_name["last"])
    grid = np.asarray(run.sample_grid(4, weights="raw"))
    assert not np.array_equal(grid, np.asarray(run.sample_grid(4, weights="last")))
    with pytest.raises(
        ValueError, match=rf"no checkpoint after 7 images. Choose one of: .*{images:,}"
    ):
        run.sample(1, weights="7")
