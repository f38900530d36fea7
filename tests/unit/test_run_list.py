"""The list of runs: what it says of each, order, filter, width, and that it is fast."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from gan_lab.runs import run_list, run_lock
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from tests.helpers.reports import written_run

COMMAND = [sys.executable, "-m", "gan_lab", "runs"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs: finished, unfinished, with only a config, and damaged; and a foreign folder."""
    root = tmp_path_factory.mktemp("lab") / "runs"
    folders = [
        written_run(root / "cgan" / "seed0", distance=7.0),
        written_run(root / "dcgan" / "seed0", experiment="dcgan", distance=3.0, ended=False),
        written_run(root / "gan" / "seed0", experiment="gan", ended=False),
        written_run(root / "deep" / "er" / "wgan" / "seed0", experiment="wgan", distance=5.0),
    ]
    for name in ("metrics.csv", "scores.json"):
        (folders[2] / name).unlink()
    (folders[3] / "summary.json").write_text("{")
    (folders[0] / "health.csv").write_text(
        "iteration,images,kind,sentence\n1,16,collapse,it collapsed\n2,32,collapse,again\n"
    )
    for time, folder in enumerate(folders):
        (folder / "checkpoints").mkdir()
        for name in run_list.DATED_FILES:
            if (folder / name).exists():
                os.utime(folder / name, (1000 + time, 1000 + time))
    # another program's config, and files that are hidden
    (root / "other").mkdir()
    (root / "other" / "config.yaml").write_text("a: 1\n")
    (root / ".hidden" / "checkpoints").mkdir(parents=True)
    (root / ".hidden" / "config.yaml").write_text("family: gan\n")
    return root


def test_list_runs_agrees_with_run(root: Path) -> None:
    """Each value is the one of ``Run``, which the page shows."""
    found = {run.name: run for run in run_list.list_runs(root)}
    assert found.keys() == {"cgan/seed0", "dcgan/seed0", "gan/seed0", "wgan/seed0"}
    for name in ("cgan/seed0", "dcgan/seed0", "gan/seed0"):
        run, opened = found[name], Run(found[name].path)
        assert (run.status, run.images) == (opened.status, opened.images)
        assert run.headline == (opened.headline or "")
    assert (
        found["cgan/seed0"].value == Run(root / "cgan" / "seed0").scores["fd_digits"].value == 7.0
    )
    assert (found["cgan/seed0"].alerts, found["dcgan/seed0"].alerts) == (2, 0)
    # the best value so far, of lower is better
    assert found["dcgan/seed0"].value == 3.0
    assert found["gan/seed0"].value is None
    assert found["wgan/seed0"].status == "damaged"
    assert "summary.json" in found["wgan/seed0"].problem


@pytest.mark.parametrize(
    ("text", "sort", "names"),
    [
        ("", "age", ["wgan", "gan", "dcgan", "cgan"]),
        ("", "name", ["cgan", "dcgan", "wgan", "gan"]),
        # none is last, and cgan has a higher distance than dcgan
        ("", "score", ["dcgan", "cgan", "wgan", "gan"]),
        ("", "alerts", ["cgan", "dcgan", "wgan", "gan"]),
        # the last grid shows how far the run without metrics is; it is unknown of the damaged one
        ("", "images", ["cgan", "dcgan", "gan", "wgan"]),
        ("", "status", ["wgan", "cgan", "dcgan", "gan"]),
        ("finished", "name", ["cgan"]),
        ("CGAN seed", "name", ["cgan"]),
        ("unfin dc", "name", ["dcgan"]),
        ("nothing", "name", []),
    ],
)
def test_select_runs_filters_words_and_sorts(
    root: Path, text: str, sort: str, names: list[str]
) -> None:
    found = run_list.select_runs(run_list.list_runs(root), text, sort)
    assert [run.name.partition("/")[0] for run in found] == names


@pytest.mark.parametrize(
    ("name", "text"),
    [("scores.json", "[1]"), ("summary.json", "[]"), ("summary.json", '{"images": "x"}'),
     ("summary.json", '{"scores": 3}')],
)  # fmt: skip
def test_list_runs_unreadable_run_is_damaged(name: str, text: str, tmp_path: Path) -> None:
    """JSON of an unexpected type in one run leaves the list of the others."""
    written_run(tmp_path / "a" / "r")
    (written_run(tmp_path / "b" / "r") / name).write_text(text)
    for run in ("a", "b"):
        (tmp_path / run / "r" / "checkpoints").mkdir()
    found = {run.name: run for run in run_list.list_runs(tmp_path)}
    assert found["a/r"].status == "finished"
    assert found["b/r"].status == "damaged"
    assert found["b/r"].problem


def test_describe_run_vanished_run_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is deleted, or another user's, while its files are read."""
    folder = written_run(tmp_path / "a" / "r")
    for error in (FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")):

        def fail(*_: object, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(run_list, "find_headline", fail)
        found = run_list.describe_run(folder)
        assert (found.status, str(error) in found.problem) == ("damaged", True)


def test_locked_run_is_in_training(root: Path) -> None:
    """As a training locks it; the list does not lock it itself."""
    if not run_lock.LOCKS_FILE.is_file():
        pytest.skip("this system does not list locks")
    lock = FileLock(root / "dcgan" / ".seed0.lock")
    statuses = []
    for _ in range(2):
        with lock:
            statuses.append({run.name: run.status for run in run_list.list_runs(root)})
    assert statuses[0]["dcgan/seed0"] == statuses[1]["dcgan/seed0"] == "training"
    assert statuses[0]["cgan/seed0"] == "finished"
    assert {run.status for run in run_list.list_runs(root)} == {"finished", "unfinished", "damaged"}


def test_list_runs_without_runs_is_one_line(root: Path, tmp_path: Path) -> None:
    for folder, reason in ((tmp_path, "No runs below"), (tmp_path / "x", "There is no folder")):
        with pytest.raises(UserError, match=reason):
            run_list.list_runs(folder)
    with pytest.raises(UserError, match=r"unknown order 'nothing'.* Available: age, "):
        run_list.select_runs([], sort="nothing")


def test_runs_command_needs_neither_torch_nor_lightning(root: Path) -> None:
    """So that it answers at once: importing them takes longer than reading 100 runs."""
    code = (
        "import sys; from gan_lab import cli; cli.app(standalone_mode=False); "
        "print(sorted({'torch', 'lightning', 'scipy'} & sys.modules.keys()))"
    )
    words = ["runs", str(root), "--page"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *table, page, modules = done.stdout.splitlines()
    assert modules == "[]"
    assert page == str(root / "index.html")
    assert len([line for line in table if " finished" in line]) == 1


@pytest.mark.parametrize("columns", [40, 80])
def test_runs_table_fits_the_terminal(
    columns: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real terminal no line is wider than it, and no part of a path is lost."""
    monkeypatch.setenv("COLUMNS", str(columns))
    output = bytearray()

    def read(descriptor: int) -> bytes:
        output.extend(data := os.read(descriptor, 1024))
        return data

    pty.spawn([*COMMAND, str(root), "--filter", "finished"], read)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output.decode()).splitlines()
    assert max(map(len, lines)) <= columns
    folded = "".join(line.split(" ")[0] for line in lines[1:-1])
    assert folded == str(root / "cgan" / "seed0")
