"""budget=auto: about an hour on a machine, at most 2,000 views of each image, and the same run."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import gan_lab
from gan_lab import benchmark
from gan_lab.cli import console
from gan_lab.config import loading
from gan_lab.config.schema import Config
from gan_lab.distributed import detect
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.sweeps import check, sweep_file
from gan_lab.training import auto_budget, profiling
from gan_lab.utils.errors import UserError


def choose(count: int, iteration_s: float, evaluation_s: float = 0.0, *more: str) -> Config:
    """Choose for ``count`` training images in batches of 50."""
    loaded = loading.load("gan", ["budget=auto", "data.batch_size=50", *more])
    data: Any = SimpleNamespace(train=range(count), spec=SimpleNamespace(content="digits"))
    return auto_budget.choose(loaded, data, iteration_s, evaluation_s)


def test_budget_is_limited_by_the_images_or_by_the_time() -> None:
    """Both limits in closed form: 2,000 views of each image, and an hour of iterations."""
    assert choose(30, 0.001).run.images == 60_000
    assert choose(1_000_000, 0.5).run.images == 3600 / 0.5 * 50 == 360_000
    # evaluations take their time: 5 of 36 s leave 3420 s
    assert choose(1_000_000, 0.5, 36.0).run.images == 340_000 < 3420 / 0.5 * 50
    # a tenth of an hour is enough for three evaluations of 100 s
    assert choose(30, 0.001, 100.0).run.evaluate_every_images == 20_000
    assert choose(30, 0.001, 1e9).run.images == 50, "a batch at least"


def test_values_of_the_user_are_kept() -> None:
    chosen = choose(30, 0.001, 0.0, "run.images=7_000")
    assert (chosen.run.images, chosen.run.evaluate_every_images) == (7_000, 1_400)
    chosen = choose(30, 0.001, 0.0, "run.evaluate_every_images=9_000")
    assert (chosen.run.images, chosen.run.evaluate_every_images) == (60_000, 9_000)
    assert not loading.load("gan", ["budget=smoke"]).automatic_keys


def read_weights(run: gan_lab.Run) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(run.path / "checkpoints/last.ckpt")[
        "state_dict"
    ]
    return weights


def test_a_run_with_a_chosen_budget_is_the_run_with_that_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Measuring changes no random number; the same command finds the same run and measures once."""
    monkeypatch.setattr(auto_budget, "TRAINING_S", 0.3)
    short = {"data.batch_size": 16, "model.width": 8, "log.wandb": "off", "metrics.num_fakes": 100}
    short |= {"run.root": str(tmp_path), "log.progress_bar": False}
    caplog.set_level(logging.INFO, "gan_lab")
    chosen = gan_lab.train("ring", overrides=short | {"budget": "auto"})
    run = chosen.config.run
    assert 0 < run.images < 10_000_000
    line = f"run.images={run.images} run.evaluate_every_images={run.evaluate_every_images}"
    assert f"budget=auto chose {line}" in caplog.text
    explicit = {"run.images": run.images, "run.evaluate_every_images": run.evaluate_every_images}
    fixed = gan_lab.train("ring", overrides=short | explicit | {"run.id": "fixed"})
    weights = read_weights(fixed)
    assert all(torch.equal(value, weights[key]) for key, value in read_weights(chosen).items())
    monkeypatch.setattr(profiling, "measure", None)
    assert gan_lab.train("ring", overrides=short | {"budget": "auto"}).path == chosen.path
    longer = short | {"budget": "auto", "run.images": run.images + 32}
    assert gan_lab.train("ring", overrides=longer).images == fixed.images + 32


def test_dry_run_names_the_budget(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["budget=auto", "data.source=sample", f"data.root={data_root}", "data.batch_size=16"]
    console.print_dry_run(loading.load("gan", [*words, f"run.root={tmp_path}"]))
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "budget=auto chose" in row]
    assert 0 < int(line.split("run.images=")[1].split()[0]) < 10_000_000


def test_images_from_python_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of views is that of these images, of which 26 are held out."""
    monkeypatch.setattr(auto_budget, "MAX_VIEWS", 1)
    images = torch.rand(260, 1, 8, 8).numpy() * 2 - 1
    words = ["budget=auto", f"run.root={tmp_path}", "data.name=python", "data.size=8"]
    words += ["model.width=8", "data.batch_size=16", "metrics.num_fakes=20"]
    loaded = loading.load("gan", words)
    folder = RunFolder.of(loaded)
    assert auto_budget.resolve(loaded, folder, detect.SINGLE_PROCESS, images).run.images == 230


def test_several_processes_are_refused_unless_the_budget_is_known(tmp_path: Path) -> None:
    """Ranks would measure different times."""
    two = detect.Launch(num_nodes=2)
    words = ["budget=auto", f"run.root={tmp_path}"]
    loaded = loading.load("gan", words)
    with pytest.raises(UserError, match=r"budget=auto measures one process, and there are 2\. Set"):
        auto_budget.resolve(loaded, RunFolder.of(loaded), two)
    loaded = loading.load("gan", [*words, "run.images=1_000"])
    chosen = auto_budget.resolve(loaded, RunFolder.of(loaded), two)
    assert (chosen.run.images, chosen.run.evaluate_every_images) == (1_000, 200)


def test_comparisons_are_refused_unless_the_budget_is_known(tmp_path: Path) -> None:
    """Trials and rows of a table would have different budgets."""
    refused = pytest.raises(UserError, match=r"budget=auto gives each training a budget of its own")
    words = ["budget=auto", f"run.root={tmp_path}"]
    sweep = sweep_file.load("cgan_lr")
    with refused:
        check.check_values(sweep, words)
    check.check_values(sweep, [*words, "run.images=1_000"])
    with refused:
        benchmark.train(benchmark.Table(["gan"]), words)


def test_overwritten_run_is_measured_again_and_a_missing_start_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(*_: Any) -> tuple[Any, float, float]:
        measured.append(1)
        data = SimpleNamespace(train=range(30), spec=SimpleNamespace(content="digits"))
        return SimpleNamespace(data=data), 0.001, 0.0

    monkeypatch.setattr(profiling, "measure", measure)
    words = ["budget=auto", f"run.root={tmp_path}"]
    loaded = loading.load("gan", words)
    folder = RunFolder.of(loaded)
    folder.prepare(loading.load("gan", ["run.images=77"]).config, ["train", "gan"])
    assert auto_budget.resolve(loaded, folder, detect.SINGLE_PROCESS).run.images == 77
    again = loading.load("gan", [*words, "run.overwrite=true"])
    assert auto_budget.resolve(again, folder, detect.SINGLE_PROCESS).run.images == 60_000
    assert measured == [1]
    missing = loading.load("gan", [*words, "run.start_from=nowhere", "run.id=other"])
    with pytest.raises(UserError, match="There is no checkpoint"):
        auto_budget.resolve(missing, RunFolder.of(missing), detect.SINGLE_PROCESS)
    assert measured == [1]
