"""User errors are one line with exit code 2; bugs, of lab or user, keep their traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gan_lab import cli
from gan_lab.utils import errors, terminal
from gan_lab.utils.errors import UserError
from tests.helpers.families import small

Command = Callable[..., tuple[int, str]]

METRIC = """
from gan_lab.metrics.base import Metric

class Broken(Metric):
    higher_is_better = {"broken": True}

    def update_fake(self, outputs, batch):
        return {"rows": outputs["generated"].flatten(1).cpu()}

    def compute(self, real, fake):
        return {"broken": int("x")}

    def protocol(self, score, n):
        return {"extractor": "none"}

METRIC = Broken
"""
DATA = """
def decode(cfg):
    return int("x")
"""
FAMILY = """
from gan_lab.families.gan import GAN

class Broken(GAN):
    def step(self, batch):
        int("x")

FAMILY = Broken
"""
MISSING = """
def decode(cfg):
    open("no/such/file")
"""


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run ``gan-lab`` in this process, in a folder with user modules: exit code and stderr."""
    own = tmp_path / "mine"
    own.mkdir()
    for name, text in (
        ("metric", METRIC),
        ("data", DATA),
        ("family", FAMILY),
        ("missing", MISSING),
    ):
        (own / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(
        terminal, "protect_streams", lambda: None
    )  # which would replace what pytest captures
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, name)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gan-lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("override", "line", "error"),
    [
        (
            "metrics.include=[mine.metric]",
            'return {"broken": int("x")}',
            "ValueError: invalid literal for int()",
        ),
        ("data.name=mine.data", 'return int("x")', "ValueError: invalid literal for int()"),
        ("family=mine.family", 'int("x")', "ValueError: invalid literal for int()"),
        (
            "data.name=mine.missing",
            'open("no/such/file")',
            "FileNotFoundError: [Errno 2] No such file",
        ),
    ],
)
def test_an_error_in_the_users_code_names_file_and_line(
    override: str, line: str, error: str, command: Command, tmp_path: Path, data_root: Path
) -> None:
    code, stderr = command(
        "train", "gan", *small("gan", tmp_path / "runs", data_root, "run.images=32", override)
    )
    assert code == 1
    assert "Traceback (most recent call last)" in stderr
    last = stderr.strip().splitlines()[-1]
    file = tmp_path / "mine" / f"{override.rpartition('.')[2].rstrip(']')}.py"
    number = 1 + next(i for i, text in enumerate(file.read_text().splitlines()) if line in text)
    assert last.startswith(f"error in your code: {file}, line {number}, in ")
    assert error in last


def test_a_bug_of_the_lab_asks_for_a_report(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_lab.config.loading.experiments", partial(json.loads, "{"))
    code, stderr = command("train")
    assert code == 1
    assert "Traceback" in stderr
    assert "This is a bug in the lab" in stderr.strip().splitlines()[-1]


USER_ERRORS = [
    (["train", "cgann"], "unknown experiment 'cgann'. Did you mean 'cgan'?"),
    (["train", "cgan", "run.imags=5"], "Key 'run.imags' not in"),
    (["train", "cgan", "run.accumulate=2"], "run.accumulate was renamed to run.micro_batches"),
    (["train", "cgan", "model.lr=1"], "model.lr was renamed to model.lr_d and model.lr_g"),
    (["train", "cgan", "run.images=many"], "run.images=many: it must be a whole number"),
    (["train", "cgan", "run.images=0"], "run.images=0 is out of range"),
    (["train", "cgan", "model.norm=layre"], "model.norm=layre: it must be one of"),
    (["train", "cgan", "images=5"], "Key 'images' not in"),
    (["train", "cgan", "run.images"], "'run.images' is not key=value"),
    (["train", "cgan", "data.labels=false"], "conditional on labels"),
    (["train", "gan", "data.name=mnits"], "unknown data set 'mnits'. Did you mean 'mnist'?"),
    (["train", "gan", "data.name=folder", "data.root=nowhere"], "data.root=nowhere"),
    (["train", "gan", "data.name=folder"], "data.root is missing: data.name=folder"),
    (["train", "cgan", "--images", "100"], "Write run.images=100 or data.images=100"),
    (["train", "cgan", "--batch-size=8"], "Unknown option --batch-size=8: values of the config"),
    (["dry-run", "cgan", "--data.size", "9"], "Write data.size=9"),
    (["dry-run", "cgan", "--nothing"], "Unknown option --nothing"),
    (["train", "gan", "data=faces46"], "unknown data option 'faces46'. Did you mean 'faces64'?"),
    (["train", "gan", "family=mine.nothing"], "family mine.nothing: No module named"),
    (["train", "gan", "metrics.headline=fdd", "data.source=sample"], "unknown score 'fdd'"),
    (["train", "mine/none.yaml"], "file not found: mine/none.yaml"),
    (["evaluate", "runs/none"], "runs/none"),
    (["sample", "runs/none"], "runs/none"),
    (["report", "runs/none"], "runs/none"),
    (["compare", "runs/none"], "runs/none"),
    (["translate", "runs/none", "in", "out"], "runs/none"),
    (["export", "runs/none"], "runs/none"),
    (["study", "optimumm"], "unknown study 'optimumm'. Did you mean 'optimum'?"),
    (["sweep", "cgan_lrr"], "cgan_lrr"),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), USER_ERRORS, ids=[" ".join(a) for a, _ in USER_ERRORS]
)
def test_a_user_error_is_one_line(arguments: list[str], sentence: str, command: Command) -> None:
    code, stderr = command(*arguments)
    assert code == 2, stderr
    (line,) = stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert sentence in line


@pytest.mark.parametrize("words", ["sample", "evaluate", "report", "compare", "translate"])
@pytest.mark.parametrize("folder", ["runs/cgan", "runs/cgan/seed7", "runs"])
def test_folder_of_runs_is_answered_by_its_runs(
    words: str, folder: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who names an experiment, or a seed that does not exist, sees the runs there are."""
    for seed in (0, 3):
        run = tmp_path / "runs" / "cgan" / f"seed{seed}"
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text("family: cgan\n")
    monkeypatch.chdir(tmp_path)
    others = ["in", "out"] if words == "translate" else []
    code, stderr = command(words, folder, *others)
    assert code == 2
    assert stderr.strip().endswith("Name a run: runs/cgan/seed0, runs/cgan/seed3")


def test_only_user_errors_are_explained_in_one_line() -> None:
    assert errors.explain_error(UserError("a: b.\n c")) == "a: b. c"
    assert errors.explain_error(ValueError("a")) is None
    assert errors.explain_error(PermissionError(13, "Permission denied", "x")) is not None
    assert errors.explain_error(KeyError("a")) is None
