"""Rows, pictures and files reach whoever watches a run from outside, by their real clients."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lab import load_generator
from gan_lab.config import loading
from gan_lab.images import to_uint8
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder, loop
from gan_lab.training.callbacks.tensorboard_logger import TensorBoardLogger
from gan_lab.training.callbacks.tracker import FinalSample
from gan_lab.training.callbacks.trackio_logger import TrackioLogger
from gan_lab.training.callbacks.wandb_logger import WandbLogger
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import make_file_name, read_rows
from tests.helpers import processes
from tests.helpers.families import small
from tests.helpers.pictures import flat
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
    assert (keys["loss_d"], keys["label_accuracy"], keys["images"]) == (4, 2, 4 + 1 + 3 + 1 + 1)
    assert (keys["reals.path"], keys["samples.path"], keys["report.path"]) == (1, 3, 1)
    # the images of the table of final samples are in its artifact
    media = {
        path.read_bytes()
        for path in (record / "files" / "media").rglob("*")
        if path.is_file() and not path.name.endswith(".table.json")
    }
    written = [*run.glob("samples/*.png"), run / "reals.png", run / "report.html"]
    assert {path.read_bytes() for path in written} == media
    artifacts = {
        entry["artifact"]["type"]: entry["artifact"] for entry in entries if "artifact" in entry
    }
    assert artifacts.keys() == {"run_table", "model"}
    check_samples(artifacts["run_table"], run)
    artifact = artifacts["model"]
    assert artifact["name"] == make_file_name("cgan-a=b", safe="a-z_-") != "cgan-a=b"
    (content,) = artifact["manifest"]["contents"]
    copy = Path(content["local_path"])
    assert copy.is_relative_to(run.resolve())
    assert copy.read_bytes() == (run / "checkpoints" / "best.ckpt").read_bytes()


def check_samples(artifact: dict[str, Any], run: Path) -> None:
    """Check the files of a table of W&B: four seeds of each class of the best checkpoint."""
    files = {each["path"]: Path(each["local_path"]) for each in artifact["manifest"]["contents"]}
    assert all(file.is_relative_to(run.resolve()) for file in files.values())
    content = json.loads(files.pop("final_samples.table.json").read_text())
    assert content["columns"] == ["class", "seed", "image"]
    generator = load_generator(run)
    keys = [(name, seed) for name in generator.class_names for seed in range(4)]
    assert [(row[0], row[1]) for row in content["data"]] == keys
    for (_, _, image), (name, seed) in zip(content["data"], keys, strict=True):
        expected = to_uint8(generator(1, name, seed))[0, 0].numpy().astype(int)
        with Image.open(files[image["path"]]) as picture:
            assert np.abs(np.asarray(picture.convert("L")).astype(int) - expected).max() <= 1


class Trackio(ModuleType):
    """The documented API of trackio, which keeps what it gets."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.calls: list[tuple[str, Any]] = []
        self.Image = lambda value: ("image", np.asarray(
            Image.open(value) if isinstance(value, str) else value))  # fmt: skip
        self.Table = lambda columns, data: ("table", columns, data)

    def init(self, project: str, name: str, group: str, config: dict[str, Any], resume: str,
             embed: bool, auto_log_gpu: bool, auto_log_cpu: bool) -> Any:  # fmt: skip
        self.calls.append(("init", (project, name, group, resume, config["family"])))
        return SimpleNamespace(log=lambda row, step: self.calls.append(("log", (step, row))))

    def alert(self, title: str, text: str) -> None:
        self.calls.append(("alert", (title, text)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def log_everything(tracker: TrackioLogger, folder: Path) -> None:
    """Log a row, a grid, an alert and a table of one sample."""
    grid = flat(folder / "grid.png", (200, 0, 0), (30, 20))
    tracker.start(0)
    tracker.log({"images": 80, "iteration": 5, "loss_d": 0.5})
    tracker.log_image("samples", grid, 160)
    tracker.alert("collapse", "the generator has collapsed", 640)
    tracker.log_samples([FinalSample("seven", 3, Image.new("RGB", (8, 8), (0, 0, 250)))], 160)
    tracker.finish()


def test_trackio_gets_rows_images_alerts_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the images seen; the runs of a project have the names of their experiments."""
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    config = loading.load("cgan", ["log.trackio=true", "log.wandb=off", "log.wandb_project=p"])
    monkeypatch.setattr(builder, "rank", lambda: 0)
    run = RunFolder(tmp_path / "cgan" / "seed0")
    (tracker,) = builder.build_trackers(config.config, run)
    assert isinstance(tracker, TrackioLogger)
    log_everything(tracker, tmp_path)
    steps = [call for name, call in trackio.calls if name == "log"]
    name = f"cgan-seed0-{tracker.id}"
    assert trackio.calls[0] == ("init", ("p", name, "cgan", "allow", "cgan"))
    assert steps[0] == (80, {"iteration": 5, "loss_d": 0.5})
    step, row = steps[1]
    assert (step, row["samples"][1][0, 0].tolist()) == (160, [200, 0, 0])
    ((kind, columns, rows),) = steps[2][1].values()
    assert (kind, columns, rows[0][:2]) == ("table", ["class", "seed", "image"], ["seven", 3])
    assert rows[0][2][1][0, 0].tolist() == [0, 0, 250]
    text = "640 images: the generator has collapsed"
    assert [call for call in trackio.calls if call[0] != "log"][1:] == [
        ("alert", ("collapse", text)),
        ("finish", None),
    ]


def test_trackio_appends_to_a_run_only_if_it_resumes(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trackers of one training keep their own ids; one that starts over gets new ones."""
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setattr("gan_lab.training.loop.evaluate_all", lambda *_: None)
    words = small("cgan", tmp_path, data_root, "log.trackio=true", "run.id=x")
    for more in (["run.images=32"], ["run.images=64"], ["run.images=32", "run.overwrite=true"]):
        assert loop.train(loading.load("cgan", [*words, *more]), [*words, *more]) == 0
    first, resumed, restarted = [call[1] for name, call in trackio.calls if name == "init"]
    assert first == resumed
    assert first.startswith("cgan-x-")
    assert restarted != first
    state = {"tracker_ids": {"W&B": "1", "trackio": "2"}}
    assert [loop.find_tracker_id(state, name) for name in ("W&B", "trackio")] == ["1", "2"]
    # as in checkpoints that were written when W&B alone had an id
    assert loop.find_tracker_id({"wandb_id": "0a"}, "W&B") == "0a"
    assert loop.find_tracker_id({"wandb_id": "0a"}, "trackio") is None


def test_client_of_trackio_stores_rows_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real client, if it is installed; it reads the variable when it is imported."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    tracker = TrackioLogger("p", "cgan", "seed0", {"family": "cgan"})
    log_everything(tracker, tmp_path)
    (run,) = trackio.Api().runs("p")
    name = f"cgan-seed0-{tracker.id}"
    assert (run.name, run.config["family"], run.config["_Group"]) == (name, "cgan", "cgan")
    assert [alert["text"] for alert in run.alerts()] == ["640 images: the generator has collapsed"]
    with closing(sqlite3.connect(tmp_path / "trackio" / "p.db")) as stored:
        rows = stored.execute("select step, metrics from metrics order by id").fetchall()
    assert [step for step, _ in rows] == [80, 160, 160]
    (sample,) = json.loads(rows[2][1])["final_samples"]["_value"]
    assert (sample["class"], sample["seed"]) == ("seven", 3)
    with Image.open(tmp_path / "trackio" / "media" / sample["image"]["file_path"]) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 250)


def test_a_trackio_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    line = r"^log.trackio=true: the package trackio is not installed: pip install '.\[trackio\]'"
    with pytest.raises(UserError, match=line):
        TrackioLogger("p", "cgan", "seed0", {})


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
        match=r"^log.tensorboard=true: the package tensorboard is not installed: make extras",
    ):
        TensorBoardLogger(tmp_path)
