"""Faults of terminal, pipe, locale or memory: one line, and the training continues."""

from __future__ import annotations

import ast
import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gan_lab
from gan_lab.config import loading
from gan_lab.training.callbacks import checkpoint, wandb_logger
from gan_lab.training.callbacks.checkpoint import Checkpoint
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.progress_bar import ProgressLines
from gan_lab.utils import errors, terminal
from gan_lab.utils.errors import UserError
from tests.helpers.processes import Kill, start, train
from tests.integration.test_cli import answer

SOURCES = sorted(Path(gan_lab.__file__).parent.rglob("*.py"))


def calls(path: Path) -> list[ast.Call]:
    return [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    ]


def test_every_text_file_is_utf_8_whatever_the_locale() -> None:
    bare = []
    for path in SOURCES:
        for call in calls(path):
            name = (
                call.func.attr
                if isinstance(call.func, ast.Attribute)
                else getattr(call.func, "id", "")
            )
            if (
                name not in ("read_text", "write_text", "open")
                or (isinstance(call.func, ast.Name) and name != "open")
                or ast.unparse(call.func).startswith(("Image", "os.", "av.", "archive."))
            ):
                continue
            words = [ast.unparse(argument) for argument in call.args]
            said = {keyword.arg for keyword in call.keywords}
            if not ("encoding" in said or any("utf-8" in word or "b'" in word for word in words)):
                bare.append(f"{path.name}:{call.lineno} {ast.unparse(call)}")
    assert bare == []


def test_no_name_is_read_as_markup() -> None:
    made = [
        (path.name, call)
        for path in SOURCES
        for call in calls(path)
        if ast.unparse(call.func) == "Console"
    ]
    printing = [
        (name, call) for name, call in made if name != "builder.py"
    ]  # which only asks for a terminal
    assert printing
    for name, call in printing:
        assert "markup=False" in ast.unparse(call), name


def test_what_cannot_be_shown_is_replaced() -> None:
    stream = terminal.ResilientStream(io.BytesIO(), "ascii", "replace", write_through=True)
    stream.write("5 ± 1 of caf\udce9")
    assert stream.buffer.getvalue() == b"5 ? 1 of caf?"  # type: ignore[attr-defined]


def test_closed_pipe_silences_a_stream_and_raises_nothing() -> None:
    reading, writing = os.pipe()
    stream = terminal.ResilientStream(
        os.fdopen(writing, "wb"), "utf-8", "replace", line_buffering=True
    )
    assert stream.write("first\n") == 6
    os.close(reading)
    for _ in range(3):
        assert stream.write("second\n") == 7
    stream.flush()
    stream.close()


def test_a_training_outlives_the_reader_of_its_output(tmp_path: Path, data_root: Path) -> None:
    words = [f"run.root={tmp_path}", f"data.root={data_root}", "data.source=sample",
             "log.wandb=off", "metrics.num_fakes=100", "metrics.num_reals=100",
             "metrics.allow_small_n=true", "run.images=64", "data.batch_size=16",
             "run.id=piped"]  # fmt: skip
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "gan_lab", "train", "gan", *words], stdout=writing, stderr=writing
    )
    os.close(writing)
    assert ended.returncode == 0
    assert (tmp_path / "gan" / "piped" / "summary.json").is_file()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 752640000 bytes"
        ),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_a_memory_that_is_used_up_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(loading, "load", full)
    code, said = answer(capsys, monkeypatch, "train", "gan")
    assert code == 2
    assert len(said.splitlines()) == 1
    assert all(key in said for key in ("data.batch_size", "data.size", "model.width"))


def test_a_fault_of_the_lab_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors.explain_error(RuntimeError("shapes differ")) is None
    assert errors.explain_error(KeyError("x")) is None
    assert errors.explain_error(UserError("a\n b")) == "a b"


def test_no_home_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # as it is for a user id that nobody has
    assert not wandb_logger.key_is_present()
    with pytest.raises(ValueError, match=r"data.root=~/x: home folder not found"):
        loading.load("gan", ["data.root=~/x"])


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = loading.load(
        "gan", ["data.root=~/d", "run.root=~/r", "metrics.inception_weights=~/w.pth"]
    ).config
    given = [loaded.data.root, loaded.run.root, loaded.metrics.inception_weights]
    assert given == [f"{tmp_path}/d", f"{tmp_path}/r", f"{tmp_path}/w.pth"]


@pytest.mark.parametrize(("mode", "environment", "off"),
                         [("auto", "disabled", True), ("auto", "offline", False),
                          ("off", "online", True), ("offline", "disabled", False)])  # fmt: skip
def test_wandb_mode_disabled_is_heard(
    mode: str, environment: str, off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", environment)
    assert wandb_logger.is_disabled(mode) == off


@pytest.mark.parametrize(
    ("value", "off"),
    [
        ("true", True),
        ("1", True),
        ("YES", True),
        ("on ", True),
        ("false", False),
        ("0", False),
        ("", False),
    ],
)
def test_wandb_disabled_variable_is_honored(
    value: str, off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WANDB_DISABLED decides log.wandb=auto and the backend of sweeps; a typed value wins."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wandb_logger.is_disabled("auto") == off
    assert wandb_logger.is_wanted() != off
    assert not wandb_logger.is_disabled("offline")


def test_a_hang_up_ends_a_training_with_a_checkpoint(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = [f"run.root={tmp_path}", f"data.root={data_root}", "data.source=sample",
             "log.wandb=off", "log.progress_bar=false", "run.id=hung", "run.images=3200",
             "data.batch_size=16"]  # fmt: skip
    assert train("gan", words, log, Kill("step", 15, signal.SIGHUP)) == 143, log.read_text()
    assert (tmp_path / "gan" / "hung" / "checkpoints" / "last.ckpt").is_file()


def test_nohup_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        made = Checkpoint(Path(), Progress(1, 1), None, None)  # type: ignore[arg-type]
        made.listen(*checkpoint.PREEMPTION_SIGNALS)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        made.teardown(None, None, "fit")  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_log_file_gets_a_line_every_so_often_and_no_bar(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = [f"run.root={tmp_path}", f"data.root={data_root}", "data.source=sample",
             "log.wandb=off", "run.images=640", "data.batch_size=16",
             "run.evaluate_every_images=320", "metrics.num_fakes=100", "metrics.num_reals=100",
             "metrics.allow_small_n=true"]  # fmt: skip
    process = start("gan", words, log, environment={"LINES_EVERY": "0"})
    process.join()
    assert process.exitcode == 0, log.read_text()
    lines = [line for line in log.read_text().splitlines() if "images/s" in line]
    assert len(lines) == 40
    assert all(" of 640 images" in line for line in lines)
    assert "loss_d" in lines[-1]
    assert (
        sum(
            "fd_digits" in line
            for line in log.read_text().splitlines()
            if line.strip().startswith(("320", "640"))
        )
        == 2
    )
    assert "━" not in log.read_text().partition("report:")[0]


def test_files_that_are_none_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "experiment"
    mine.mkdir()
    (mine / "._cgan.yaml").write_bytes(b"\0\5\26\7\260\377")
    (mine / "empty.yaml").touch()
    (mine / "odd.yaml").write_bytes(b"# caf\xe9\nfamily: gan\n")
    monkeypatch.setattr(loading, "config_folder", lambda: tmp_path)
    assert loading.experiments() == {"empty": "", "odd": "caf\N{REPLACEMENT CHARACTER}"}
    with pytest.raises(ValueError, match=r"odd.yaml: not UTF-8 text. Save it as UTF-8"):
        loading.load("odd")
    with pytest.raises(ValueError, match=r"file not found: mine.yaml"):
        loading.load("mine.yaml")


def test_compiling_needs_a_compiler(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data_root: Path,
) -> None:
    monkeypatch.setenv("CXX", "nosuch")
    code, said = answer(capsys, monkeypatch, "train", "gan", "run.compile=true",
                        f"run.root={tmp_path}", "log.wandb=off", f"data.root={data_root}",
                        "data.source=sample")  # fmt: skip
    assert code == 2
    assert "run.compile=true needs a C++ compiler, but nosuch was not found" in said
    assert not list(tmp_path.iterdir())


def test_lines_are_of_the_leader_alone(capsys: pytest.CaptureFixture[str]) -> None:
    class Other:
        is_global_zero = False

    ProgressLines(Progress(1, 1), None, None, None).on_train_batch_end(Other(), None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_name_with_line_break_and_full_file_table_are_one_line() -> None:
    assert errors.escape_line_breaks("left out: a\nb.png") == "left out: a\\nb.png"
    said = errors.explain_error(OSError(errno.EMFILE, "Too many open files", "x.csv"))
    assert (
        said == "[Errno 24] Too many open files: 'x.csv'. "
        "Raise the limit of open files: `ulimit -n 1024`"
    )


def test_of_an_error_in_a_loaders_process_the_last_line_is_said() -> None:
    caught = (
        "Caught UnreadableError in DataLoader worker process 0.\n"
        'Original Traceback (most recent call last):\n  File "x.py"\n'
    )
    error = UserError(
        f"{caught}gan_lab.data.image_reader.UnreadableError: lz/1.png: "
        "[Errno 2] No such file or directory\n"
    )
    assert errors.explain_error(error) == "lz/1.png: [Errno 2] No such file or directory"
