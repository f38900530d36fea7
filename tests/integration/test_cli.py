"""The command line: bad input is one clear line and exit code 2, and nothing is lost."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import gan_lab
from gan_lab import cli
from gan_lab.metrics.digit_classifier import WEIGHTS_FILE
from gan_lab.runs.checkpoints import latest_checkpoint, read_checkpoint
from gan_lab.runs.results import read_summary, write_summary
from gan_lab.training import final_evaluation
from gan_lab.training.callbacks import checkpoint
from gan_lab.utils.score_names import is_trivial_score
from tests.helpers.families import small
from tests.helpers.processes import start, train


def answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str]:
    """What the command line says in this process: its exit code, and standard error."""
    monkeypatch.setattr(sys, "argv", ["gan-lab", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cgam"], "unknown experiment 'cgam'. Did you mean 'cgan'?"),
        (
            ["cgan", "data.bach_size=3"],
            "Key 'data.bach_size' not in 'Config'. Did you mean 'data.batch_size'?",
        ),
        (
            ["wgan_gp", "model.gp_wieght=3"],
            "Key 'model.gp_wieght' not in 'WGANGPConfig'. Did you mean 'model.gp_weight'?",
        ),
        (
            ["cgan", "model.z_dim=many"],
            "model.z_dim=many: it must be a whole number",
        ),
        (["cgan", "model.lr_d=-1"], "model.lr_d=-1.0 is out of range: it must be greater than 0"),
        (["gan", "model.loss=hing"], "model.loss=hing: it must be one of nonsaturating, minimax"),
        (["cgan", "data.labels=false"], "conditional on labels, but the data has 0 classes"),
        (
            ["gan", "data.batch_size=15", "run.devices=2"],
            "data.batch_size=15 is the global batch size. It must be divisible",
        ),
        (["gan", "metrics.headline=label_accuracy"], "metrics.headline=label_accuracy"),
        (["gan", "data.name=mnits"], "unknown data set 'mnits'. Did you mean 'mnist'?"),
        (["dcgan", "data.size=30"], "Image size 30 x 30 is not supported"),
        (["gan", "run.devices=0"], "run.devices=0"),
        (["gan", "run.devices=two"], "run.devices=two"),
        (
            ["gan", "data.labels_per_class=10"],
            "data.labels_per_class=10: gan is not semi-supervised",
        ),
        (
            ["sgan", "data.labels_per_class=401"],
            "data.labels_per_class=401 is more than the smallest class has: 370 images",
        ),
        (["sgan", "data.batch_size=15"], "divisible by the two halves (with and without labels)"),
        (
            ["sgan", "data.labels=false"],
            "data.labels_per_class=10 needs labels, but the data set has none",
        ),
        (
            ["cyclegan", "data.name=mnist", "data.size=28"],
            "the data has one. Choose data.name=horse2zebra",
        ),
        (
            ["gan", "model.loss=hinge", "model.label_smoothing=0.1"],
            "the hinge loss has no target to smooth",
        ),
        (
            ["gan", "model.label_smoothing=1"],
            "model.label_smoothing=1.0 is out of range: it must be less than 1",
        ),
    ],
)
def test_bad_words_are_answered_in_one_line(
    words: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data_root: Path,
) -> None:
    common = [f"run.root={tmp_path}", "log.wandb=off", "log.progress_bar=false"]
    common += (
        [] if any(word.startswith("data.root") for word in words) else [f"data.root={data_root}"]
    )
    code, error = answer(capsys, monkeypatch, "train", *words, *common, "data.source=sample")
    assert code == 2
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("config.yaml"))


def test_real_data_that_cannot_be_had_names_the_manual_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gan_lab.data.mnist.is_reachable", lambda url: False)
    code, error = answer(
        capsys,
        monkeypatch,
        "train",
        "gan",
        "data.source=full",
        f"data.root={tmp_path}",
        "log.wandb=off",
    )
    assert (code, len(error.splitlines())) == (2, 1)
    assert "train-images-idx3-ubyte.gz" in error
    assert "data.source=sample" in error


def test_unusable_run_folder_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data_root: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, error = answer(
        capsys, monkeypatch, "train", "gan", *small("gan", tmp_path / "file", data_root)
    )
    assert (code, len(error.splitlines())) == (2, 1)
    assert str(tmp_path / "file") in error
    (tmp_path / "gan" / "mine").mkdir(parents=True)
    (tmp_path / "gan" / "mine" / "thesis.tex").write_text("precious")
    words = small("gan", tmp_path, data_root, "run.id=mine", "run.overwrite=true")
    code, error = answer(capsys, monkeypatch, "train", "gan", *words)
    assert code == 2
    assert "is not a run folder" in error
    assert (tmp_path / "gan" / "mine" / "thesis.tex").read_text() == "precious"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Path, list[str]]:
    """A finished run of ten iterations, and its arguments."""
    root = tmp_path_factory.mktemp("trained")
    words = small("cgan", root, data_root, "run.images=160", "run.id=done")
    assert train("cgan", words, root / "log", scored=True) == 0, (root / "log").read_text()
    return root / "cgan" / "done", words


def test_a_run_of_another_config_is_refused_with_the_difference(
    trained: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, words = trained
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    code, error = answer(capsys, monkeypatch, "train", "cgan", *words, "model.z_dim=7")
    assert code == 2
    assert "model.z_dim: 100 -> 7" in error or "model.z_dim: 64 -> 7" in error
    assert "run.overwrite=true" in error
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_training_ends_with_the_page_of_the_run(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    assert f"report: {folder / 'report.html'}" in (folder.parent.parent / "log").read_text()
    text = (folder / "report.html").read_text()
    assert "The best checkpoint is the last one, after 160 images." in text
    assert text.count("<script") == 2


def test_a_finished_run_says_so_and_names_the_ways_on(
    trained: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, words = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(sys, "argv", ["gan-lab", "train", "cgan", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert not ended.value.code
    assert (
        "is already finished (160 images). Train longer: run.images=...; second run: run.id=...; "
        "start over: run.overwrite=true" in said
    )
    assert "label_accuracy" in said
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


class Code:
    """A pickle of this writes a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("verb", ["evaluate", "sample"])
@pytest.mark.parametrize("kind", ["hostile", "truncated"])
def test_a_bad_checkpoint_is_one_line_and_runs_no_code(
    verb: str, kind: str, trained: tuple[Path, list[str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text((trained[0] / "config.yaml").read_text())
    best = folder / "checkpoints" / "best.ckpt"
    if kind == "hostile":
        best.write_bytes(
            pickle.dumps({"iteration": Code(tmp_path / "struck"), "ema": {}, "recipes": {}})
        )
    else:
        best.write_bytes((trained[0] / "checkpoints" / "best.ckpt").read_bytes()[:5000])
    code, error = answer(capsys, monkeypatch, verb, str(folder))
    assert (code, len(error.splitlines())) == (2, 1)
    assert "corrupt or not of this lab, nothing was loaded" in error
    assert not (tmp_path / "struck").exists()


@pytest.mark.filterwarnings("ignore:Skipping a checkpoint")
def test_training_on_a_hostile_checkpoint_runs_no_code(
    trained: tuple[Path, list[str]], tmp_path: Path, data_root: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = small("cgan", tmp_path, data_root, "run.images=160", "run.id=done")
    folder = tmp_path / "cgan" / "done" / "checkpoints"
    folder.mkdir(parents=True)
    config = (trained[0] / "config.yaml").read_text()
    (folder.parent / "config.yaml").write_text(config)
    for name in ("iteration-00000005.ckpt", "last.ckpt"):
        torch.save(
            {"iteration": Code(tmp_path / "struck"), "ema": {}, "recipes": {}}, folder / name
        )
    code, error = answer(capsys, monkeypatch, "train", "cgan", *words)
    assert code == 2
    assert error.splitlines()[-1].startswith("error: No checkpoint in")
    assert not (tmp_path / "struck").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_with_a_checkpoint(
    number: int, code: int, tmp_path: Path, data_root: Path
) -> None:
    words = small(
        "gan",
        tmp_path,
        data_root,
        "run.images=4000000",
        "run.id=long",
        "run.evaluate_every_images=1000000000",
    )
    process = start("gan", words, tmp_path / "log", environment={"CHECKPOINT_EVERY": "1000"})
    folder = tmp_path / "gan" / "long"
    wait_for(
        lambda: (folder / "metrics.csv").exists() and (folder / "metrics.csv").stat().st_size > 0
    )
    # a slow machine has the first one, which comes after two seconds, and no other before the
    # signal's
    before = latest_checkpoint(folder)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == code
    assert latest_checkpoint(folder) not in (None, before)
    assert f"Stopped by signal {int(number)}; checkpoint saved" in (tmp_path / "log").read_text()


def wait_for(condition: object, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.05)


def test_a_full_disk_leaves_the_checkpoint_before_whole(
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """/dev/full, which is always full, stands for the disk from the second checkpoint on."""
    opened = Path.open
    written = []

    def open_or_full(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if mode == "wb" and path.suffix == ".ckpt":
            written.append(path)
            if len(written) > 1:
                return opened(Path("/dev/full"), mode)
        return opened(path, mode, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint.Path, "open", open_or_full)
    words = small(
        "gan", tmp_path, data_root, "run.images=320", "run.evaluate_every_images=160", "run.id=full"
    )
    code, error = answer(capsys, monkeypatch, "train", "gan", *words)
    assert code == 2
    assert "No space left on device" in error.splitlines()[-1]
    newest = latest_checkpoint(tmp_path / "gan" / "full")
    assert newest is not None
    assert read_checkpoint(newest)["iteration"] == 10


def test_version_prints_the_package_version() -> None:
    shown = CliRunner().invoke(cli.app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"gan-lab {gan_lab.__version__}\n")


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("gan-lab tra", 1, {"train", "translate"}),
        ("gan-lab train cyc", 2, {"cyclegan", "cyclegan_256", "cyclegan_emoji"}),
    ],
)
def test_completion_lists_commands_and_experiments(
    text: str, position: int, expected: set[str]
) -> None:
    environment = {
        "_GAN_LAB_COMPLETE": "complete_bash",
        "COMP_WORDS": text,
        "COMP_CWORD": str(position),
    }
    shown = CliRunner().invoke(cli.app, [], prog_name="gan-lab", env=environment)
    assert set(shown.output.split()) == expected


def test_help_and_an_unknown_option_import_no_torch() -> None:
    """Neither does ``--version``."""
    for words in (["--help"], ["--version"], ["train", "--help"], ["train", "--fast"]):
        code = f"import sys; sys.argv = ['gan-lab', *{words!r}]\nfrom gan_lab.cli import main\n"
        code += "try:\n    main()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        assert said.splitlines()[-1] == "False"


def test_the_run_folder_holds_what_it_should(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.yaml", "command.txt", "environment.txt", "reals.png", "samples",
                     "metrics.csv", "timing.csv", "summary.json", "checkpoints"}  # fmt: skip
    state = read_summary(folder)
    for name, entry in state["scores"]["best"].items():
        needed = {
            "extractor",
            "reals",
            "fakes",
            "data",
            "fingerprint",
            "split",
            "weights",
            "seed",
            "versions",
        }
        needed |= {"classifier"} if name.startswith("cas") else {"weights_sha256"}
        assert entry["protocol"].keys() >= needed, name
        # nothing selects images that are repeated without a network
        chosen_on = "none" if is_trivial_score(name) else "validation"
        assert entry["protocol"]["chosen_on"] == chosen_on, name
        assert entry["protocol"]["split"].startswith("t"), name
    assert state["scores"].keys() == {"best", "last", "raw"}
    assert (
        state["scores"]["raw"]["fd_digits"]["value"]
        != state["scores"]["last"]["fd_digits"]["value"]
    )
    assert state["scores"]["best"]["fd_digits"]["protocol"]["floor"] > 0
    weights = load_file(WEIGHTS_FILE)
    assert sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) <= 1_000_000


def test_an_interrupted_run_may_be_scored_and_then_goes_on(
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = small(
        "gan", tmp_path, data_root, "run.images=160", "run.id=half", "run.evaluate_every_images=80"
    )
    assert train("gan", words, tmp_path / "log") == 0
    folder = tmp_path / "gan" / "half"
    (folder / "summary.json").unlink()  # as if it had ended before the last scores
    final_evaluation.evaluate(folder, "best")
    assert train("gan", words, tmp_path / "log", scored=True) == 0, (tmp_path / "log").read_text()
    assert read_summary(folder)["iteration"] == 10
    assert read_summary(folder)["scores"].keys() == {"best", "last", "raw"}
    summary = read_summary(folder)
    scores = summary["scores"]
    write_summary(
        folder, summary | {"scores": {"best": scores["best"]}}
    )  # as if it had ended before the other scores
    assert train("gan", words, tmp_path / "log", scored=True) == 0, (tmp_path / "log").read_text()
    assert read_summary(folder)["scores"].keys() == scores.keys()
    (folder / "report.html").unlink()  # before its page was drawn
    assert train("gan", words, tmp_path / "log", scored=True) == 0, (tmp_path / "log").read_text()
    assert (folder / "report.html").is_file()


def test_a_checkpoint_of_another_network_is_one_line(
    trained: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data_root: Path,
) -> None:
    words = small("cgan", tmp_path, data_root, "run.images=320", "run.id=other", "model.z_dim=9")
    assert train("cgan", [*words[:-3], "run.images=16", *words[-2:]], tmp_path / "log") == 0
    for name in ("last", "best", "iteration-00000010"):
        stranger = (trained[0] / "checkpoints" / "best.ckpt").read_bytes()
        (tmp_path / "cgan" / "other" / "checkpoints" / f"{name}.ckpt").unlink(missing_ok=True)
        (tmp_path / "cgan" / "other" / "checkpoints" / f"{name}.ckpt").write_bytes(stranger)
    for call in (["train", "cgan", *words], ["evaluate", str(tmp_path / "cgan" / "other")]):
        code, error = answer(capsys, monkeypatch, *call)
        assert (code, len(error.splitlines())) == (2, 1), error
        assert "does not fit this run or this lab" in error


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run.id=../../home", "is not the name of a folder"),
        (
            "metrics.inception_weights=/nowhere.pth",
            "metrics.inception_weights=/nowhere.pth: there is no such file",
        ),
        (
            f"metrics.inception_weights={WEIGHTS_FILE}",
            f"{WEIGHTS_FILE} does not contain torch-fidelity's weights",
        ),
        ("metrics.extractors=[points]", "metrics.extractors=points does not suit digits"),
        ("metrics.headline=kd_digits", "unknown score 'kd_digits'"),
    ],
)
def test_what_would_be_found_out_too_late_is_refused_first(
    word: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, data_root: Path,
) -> None:  # fmt: skip
    code, error = answer(
        capsys, monkeypatch, "train", "gan", *small("gan", tmp_path, data_root), word
    )
    assert (code, len(error.splitlines())) == (2, 1)
    assert expected in error


def test_the_help_cuts_no_description_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.app(["--help"])
    lines = capsys.readouterr().out.partition("Commands:")[2].strip().splitlines()
    assert len(lines) >= 17
    assert all(
        re.fullmatch(r"  [a-z-]+ +[A-Z][^.]+\.", line.rstrip())
        for line in [f"  {lines[0]}", *lines[1:]]
    ), lines
