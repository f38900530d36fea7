"""Files of the user in a run folder: run.overwrite deletes none, and an edited page stays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gan_lab import report
from gan_lab.config.loading import load
from gan_lab.runs.run_folder import RunFolder
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import OutputFiles
from tests.helpers.reports import written_run
from tests.unit.test_output import snapshot


def overwritten(folder: Path) -> RunFolder:
    """A finished run in ``folder``, which ``prepare`` is about to overwrite."""
    written_run(folder)
    run = RunFolder(folder)
    (folder / "checkpoints").mkdir(exist_ok=True)
    return run


@pytest.mark.parametrize(
    "path",
    [
        "notes.md",
        "samples/best of all.png",
        "checkpoints/best.ckpt.bak",
        "plots/loss.pdf",
        ".git/HEAD",
        "config.yaml.orig",
        "export/NOTES.md",
        "samples/000000001.PNG",
        "sample-of-mine.png",
        "scores.xlsx",
        ".gan-lab-of-mine.txt",
        ".gan-lab-mine/a.txt",
        "project-plan.json",
    ],
)
def test_overwrite_with_file_of_user_is_refused(tmp_path: Path, path: str) -> None:
    """The message names the file, and nothing is deleted."""
    run = overwritten(tmp_path / "run")
    (run.path / path).parent.mkdir(parents=True, exist_ok=True)
    (run.path / path).write_text("by the user")
    before = snapshot(run.path)
    config = load("gan", ["run.overwrite=true"]).config
    with pytest.raises(UserError, match=rf"would delete .*{re.escape(path)}, which is not output"):
        run.prepare(config, [])
    assert snapshot(run.path) == before


def test_overwrite_with_link_or_edited_page_is_refused(tmp_path: Path) -> None:
    """A link leads to files of the user, and an edited report is one."""
    config = load("gan", ["run.overwrite=true"]).config
    run = overwritten(tmp_path / "linked")
    (tmp_path / "photos").mkdir()
    (run.path / "metrics").symlink_to(tmp_path / "photos")
    with pytest.raises(UserError, match="linked/metrics, which"):
        run.prepare(config, [])
    run = overwritten(tmp_path / "edited")
    page = report.write([run.path])
    page.write_text(page.read_text() + "a line of the user")
    with pytest.raises(UserError, match=r"edited/report\.html, which"):
        run.prepare(config, [])


def test_overwrite_deletes_all_that_the_lab_writes(tmp_path: Path) -> None:
    """Also killed writes, files of trackers, recorded output and the litter of systems."""
    run = overwritten(tmp_path / "run")
    report.write([run.path])
    with OutputFiles().write(run.path / "many" / "00000-seed0.png") as unfinished:
        unfinished.write_bytes(b"")
    for path in ("samples/000000064.png", "checkpoints/iteration-00000004.ckpt", ".DS_Store",
                 "checkpoints/.last.ckpt", "wandb/offline-run-1/any name", "sample-n64-seed0.png",
                 "tensorboard/events.out.tfevents.1", ".gan-lab-0123.png", "..gan-lab-01ab.html",
                 ".gan-lab-0123456789abcdef/config.json", "export/.gan-lab-0123456789abcdef/a.pt2",
                 "project-last.png", "project-last.json", "project-64.png",
                 "sample-n4-seed0-raw.png", "mix0-1000-layers4--n6-seed0.png",
                 "mix0-1-layers4-7-n6-seed0-last.png"):  # fmt: skip
        (run.path / path).parent.mkdir(parents=True, exist_ok=True)
        (run.path / path).write_bytes(b"")
    run.prepare(load("gan", ["run.overwrite=true"]).config, [])
    left = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    assert left == {"checkpoints", "command.txt", "config.yaml", "data.txt", "environment.txt"}


def test_report_keeps_edited_page(tmp_path: Path) -> None:
    """A page is replaced until the user has edited it; a training continues without it."""
    run = written_run(tmp_path / "run")
    for _ in range(2):
        page = report.write([run])
    page.write_text("by the user")
    with pytest.raises(UserError, match=r"report\.html .*has changed since"):
        report.write([run])
    with pytest.warns(UserWarning, match="The report was not written"):
        report.write_or_warn([run])
    assert page.read_text() == "by the user"
