"""Rows, pictures and files reach whoever watches a run from outside, by their real clients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lab.training.callbacks.tensorboard_logger import TensorBoardLogger
from gan_lab.training.callbacks.wandb_logger import WandbLogger
from gan_lab.utils.files import make_file_name, read_rows
from tests.helpers import processes
from tests.helpers.families import small
from tests.helpers.processes import Kill


def words_for(tmp_path: Path, data_root: Path, *more: str) -> list[str]:
    words = small(
        "cgan",
        tmp_path,
        data_root,
        "run.images=320",
        "run.evaluate_every_images=160",
        "log.log_every_images=80",
        *more,
    )
    return [word for word in words if word != "log.wandb=off" or "log.wandb=offline" not in more]


@pytest.mark.slow
def test_offline_wandb_run_has_rows_pictures_page_and_checkpoint(
    tmp_path: Path, data_root: Path
) -> None:
    words = words_for(
        tmp_path, data_root, "log.wandb=offline", "log.wandb_artifacts=true", "run.id=a=b"
    )
    assert processes.train("cgan", words, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert "W&B is off" not in (tmp_path / "log").read_text()
    run = tmp_path / "cgan" / "a=b"
    (record,) = (run / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    entries = [json.loads(line) for line in said.stdout.splitlines()]
    keys = Counter(key for entry in entries for key in entry.get("history", {}).get("item", {}))
    assert len(read_rows(run / "metrics.csv")) == 4  # 80, 160 with scores, 240, 320 with scores
    assert (keys["loss_d"], keys["label_accuracy"], keys["images"]) == (4, 2, 4 + 1 + 3 + 1)
    assert (keys["reals.path"], keys["samples.path"], keys["report.path"]) == (1, 3, 1)
    media = {
        path.read_bytes() for path in (record / "files" / "media").rglob("*") if path.is_file()
    }
    written = [*run.glob("samples/*.png"), run / "reals.png", run / "report.html"]
    assert {path.read_bytes() for path in written} == media
    (artifact,) = (entry["artifact"] for entry in entries if "artifact" in entry)
    assert artifact["name"] == make_file_name("cgan-a=b", safe="a-z_-") != "cgan-a=b"
    (content,) = artifact["manifest"]["contents"]
    copy = Path(content["local_path"])
    assert copy.is_relative_to(run.resolve())
    assert copy.read_bytes() == (run / "checkpoints" / "best.ckpt").read_bytes()


@pytest.mark.slow
def test_wandb_labels_of_environment_win_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real client: W&B ignores its variables if it gets values."""
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_TAGS", "x,y")
    labels = {"project": "mine", "entity": "team", "tags": ["t"], "notes": "n"}
    tracker = WandbLogger("offline", tmp_path, "cgan", "r", {}, labels=labels)
    tracker.start(0)
    tracker.finish()
    (record,) = (tmp_path / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (run,) = (entry["run"] for entry in map(json.loads, said.stdout.splitlines()) if "run" in entry)
    assert (run["project"], run["tags"]) == ("theirs", ["x", "y"])
    assert (run["entity"], run["notes"]) == ("team", "n")
    assert (run["display_name"], run["run_group"]) == ("r", "cgan")


@pytest.mark.slow
def test_event_files_of_killed_run_have_each_row_and_grid_once(
    tmp_path: Path, data_root: Path
) -> None:
    words = words_for(tmp_path, data_root, "log.tensorboard=true", "run.id=t")
    for kill in (
        Kill("step", 36),
        None,
    ):  # of two in an iteration: after the row at 240 images, before the end
        code = processes.train("cgan", words, tmp_path / "log", kill)
        assert (code == 0) == (kill is None), (tmp_path / "log").read_text()
    run = tmp_path / "cgan" / "t"
    shown = EventAccumulator(
        str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0}
    ).Reload()
    rows = read_rows(run / "metrics.csv")
    for name in ("loss_d", "fd_digits"):
        wanted = [(int(row["images"]), float(row[name])) for row in rows if row[name]]
        got = [(event.step, event.value) for event in shown.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in wanted]
        assert [value for _, value in got] == pytest.approx(
            [value for _, value in wanted], rel=1e-6
        )
    assert [event.step for event in shown.Images("samples")] == [0, 160, 320]
    (tmp_path / "shown.png").write_bytes(shown.Images("samples")[-1].encoded_image_string)
    with (
        Image.open(tmp_path / "shown.png") as a,
        Image.open(run / "samples" / "000000320.png") as b,
    ):
        assert np.array_equal(np.asarray(a), np.asarray(b.convert("RGB")))


def test_an_alert_is_text_at_its_step(tmp_path: Path) -> None:
    tracker = TensorBoardLogger(tmp_path)
    tracker.start(0)
    tracker.alert("collapse", "the generator has collapsed", 640)
    tracker.finish()
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = shown.Tensors("alert/collapse/text_summary")
    assert event.step == 640
    assert event.tensor_proto.string_val == [b"the generator has collapsed"]


def test_a_tensorboard_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        ValueError,
        match=r"^log.tensorboard=true: the package tensorboard is not installed: pip install",
    ):
        TensorBoardLogger(tmp_path)
