"""Runs of older formats are read as if they were written today, or their version is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.config import loading, plain_yaml
from gan_lab.config.renames import RENAMED_KEYS, RUN_FORMAT, rename_keys
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder, to_dict
from gan_lab.utils.errors import UserError

STORED = Path(__file__).parent.parent / "older_runs"
FORMATS = range(1, RUN_FORMAT + 1)
OVERRIDES = [
    "data.source=sample", "data.batch_size=16", "data.max_unreadable=0.02", "run.images=64",
    "run.evaluate_every_images=32", "run.micro_batches=2", "run.timeout_s=120", "run.id=0012",
    "metrics.num_fakes=100", "metrics.num_reals=100", "metrics.max_features_kept=500",
    "log.wandb=off", "log.log_every_images=16", "log.grid_every_images=32",
    "log.progress_bar=false", "model.z_dim=7", "model.width=4", "model.lr_d=3e-4",
    "model.lr_g=3e-4",
]  # fmt: skip


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the stored run of one format, at the path of a run."""
    folder = tmp_path / "runs" / "wgan" / "0012"
    shutil.copytree(STORED / f"format{request.param}", folder)
    (folder / "checkpoints").mkdir()
    return folder


def test_run_of_every_format_has_its_config(stored: Path) -> None:
    run = Run(stored)
    assert run.config == loading.load("wgan", OVERRIDES).config
    assert run.values["metrics.num_fakes"] == run.values["metrics.num_reals"] == 100
    assert run.values["run.id"] == "0012"
    assert "format" not in run.values
    assert not run.values.keys() & RENAMED_KEYS.keys()


def test_run_of_every_format_is_finished_and_resumed(stored: Path) -> None:
    root = stored.parent.parent
    loaded = loading.load("wgan", [*OVERRIDES, f"run.root={root}"])
    folder = RunFolder.of(loaded)
    assert folder.path == stored
    finished = folder.finished(loaded.config)
    assert finished is not None
    assert finished.scores["fd_digits"].value == 61.5
    assert finished.scores_of("raw")["fd_digits"].value == 64.0
    folder.prepare(loaded.config, ["train", "wgan"])
    tree = plain_yaml.resolve(plain_yaml.read_file(stored / "config.yaml"))
    assert tree["format"] == RUN_FORMAT
    assert tree["data"]["max_unreadable"] == 0.02
    assert "max_bad" not in tree["data"]


@pytest.mark.parametrize("command", ["compare", "report"])
def test_command_reads_run_of_every_format(stored: Path, command: str) -> None:
    result = CliRunner().invoke(app, [command, str(stored)])
    assert result.exit_code == 0, result.output
    text = result.output
    if command == "report":
        text = (stored / "report.html").read_text(encoding="utf-8")
        assert "data.max_unreadable" in text
        assert "max_bad" not in text
    assert "61.5" in text


@pytest.mark.parametrize("number", [RUN_FORMAT + 1, 0, "two", 1.5, True])
def test_run_of_unknown_format_names_both_versions(tmp_path: Path, number: object) -> None:
    shutil.copytree(STORED / f"format{RUN_FORMAT}", tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"format: {RUN_FORMAT}", f"format: {str(number).lower()}"))
    with pytest.raises(
        UserError, match=r"has the format .*, but this is gan-lab .* Update the lab"
    ):
        Run(tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "versions"),
    [("data.hue: red", "an older gan-lab"), ("run.images: 0", "gan-lab 9.8.7")],
)
def test_run_that_cannot_be_read_names_its_version(tmp_path: Path, key: str, versions: str) -> None:
    """A key that was removed, or a value that is no longer in range."""
    shutil.copytree(STORED / "format1", tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    text = path.read_text(encoding="utf-8").replace("  images: 64\n", "")
    path.write_text(f"{text}{key}\n", encoding="utf-8")
    if "9.8.7" in versions:
        (tmp_path / "run" / "environment.txt").write_text("gan-lab 9.8.7\npython 3.11\n")
    run = Run(tmp_path / "run")
    with pytest.raises(UserError, match=rf"config\.yaml: .* \(a run of {versions}; this is") as got:
        _ = run.config
    assert len(str(got.value).splitlines()) == 1


def test_every_renamed_key_has_a_current_name() -> None:
    keys = {key for family in loading.families() for key in loading.list_keys(family)}
    for old, names in RENAMED_KEYS.items():
        assert set(names) <= keys, old
        assert all(name.partition(".")[0] == old.partition(".")[0] for name in names)


def test_key_that_is_current_again_is_not_renamed() -> None:
    """vaegan has model.lr; wgan has model.lr_d and model.lr_g."""
    assert rename_keys({"model.lr": 1}, loading.list_keys("vaegan")) == {"model.lr": 1}
    renamed = rename_keys({"model.lr": 1, "model.lr_g": 2}, loading.list_keys("wgan"))
    assert renamed == {"model.lr_d": 1, "model.lr_g": 2}
    assert rename_keys({"model.pool": 9}, loading.list_keys("cyclegan")) == {"model.pool_size": 9}


def test_gray_input_of_an_older_run_is_a_degradation(tmp_path: Path) -> None:
    """A key whose values changed with its name, in a config (text) and in a record (booleans)."""
    for text, kind in (("true", "gray"), ("false", "none")):
        path = tmp_path / text / "config.yaml"
        path.parent.mkdir()
        path.write_text(f"format: 2\nfamily: pix2pix\ndata:\n  gray_input: {text}\n")
        assert Run(path.parent).config.data.degradation == kind
        assert loading.load(str(path)).config.data.degradation == kind
        recorded = {"data.gray_input": text == "true"}
        assert rename_keys(recorded, loading.list_keys("pix2pix")) == {"data.degradation": kind}
    (tmp_path / "run").mkdir()
    config = to_dict(loading.load("colorize").config)
    RunFolder(tmp_path / "run").prepare(loading.load("colorize").config, ["train", "colorize"])
    del config["data"]["degradation"]
    config["data"]["gray_input"] = True
    text = plain_yaml.write({"format": 2} | config)
    (tmp_path / "run" / "config.yaml").write_text(text, encoding="utf-8")
    RunFolder(tmp_path / "run").prepare(loading.load("colorize").config, ["train", "colorize"])
    upgraded = plain_yaml.resolve(plain_yaml.read_file(tmp_path / "run" / "config.yaml"))
    assert upgraded["data"]["degradation"] == "gray"


def test_config_of_a_run_is_an_experiment(tmp_path: Path) -> None:
    """A file without a format number is an experiment of today, in which old keys are errors."""
    path = tmp_path / "again.yaml"
    for text in ("format: 2\n", "format: 1\n"):
        name = "max_unreadable" if "2" in text else "max_bad"
        path.write_text(f"{text}family: cgan\ndata: {{{name}: 0.5}}\n")
        assert loading.load(str(path)).config.data.max_unreadable == 0.5
    path.write_text("family: cgan\ndata: {max_bad: 0.5}\n")
    with pytest.raises(UserError, match=r"max_bad was renamed to data\.max_unreadable"):
        loading.load(str(path))
    path.write_text("format: 99\nfamily: cgan\n")
    with pytest.raises(UserError, match="has the format 99"):
        loading.load(str(path))


def test_renamed_key_on_the_command_line_is_explained() -> None:
    for old, names in RENAMED_KEYS.items():
        if not old.startswith("model."):
            with pytest.raises(UserError, match=f"{old} was renamed to {' and '.join(names)}"):
                loading.load("gan", [f"{old}=1"])
