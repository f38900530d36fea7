"""Bar 1: a shipped sweep of real trainings, killed and started again; its report and check."""

from __future__ import annotations

import csv
import os
import re
import signal
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.config import loading
from gan_lab.runs.results import read_summary
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import find_differences
from gan_lab.sweeps import check, sweep_file, sweep_report
from gan_lab.sweeps.trials import Trials
from tests.helpers.sweeping import wait_for, worker

WORDS = ["data.source=sample", "log.wandb=off", "run.images=128", "run.evaluate_every_images=64",
         "metrics.num_fakes=64", "metrics.num_reals=64", "metrics.allow_small_n=true",
         "metrics.inception_weights=off", "model.width=8", "log.grid_every_images=128"]  # fmt: skip


@pytest.mark.slow
def test_killed_sweep_resumes_and_its_best_config_trains(
    tmp_path: Path, sample: object, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sweep dcgan_loss`` with four trials; everything is killed while the second one trains."""
    folder = tmp_path / "sweeps" / "dcgan_loss"
    words = [*WORDS, f"data.root={data_root}", f"run.root={folder.parent.parent}"]
    path = sweep_file.sweep_folder() / "dcgan_loss.yaml"
    limited = folder.parent / "dcgan_loss.yaml"
    limited.parent.mkdir()
    limited.write_text(path.read_text() + "run_cap: 4\n")

    first = worker(limited, folder, words=words, trained=True)
    metrics = folder / "runs" / "dcgan" / "trial-0001" / "metrics.csv"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 1)
    os.kill(first.pid, signal.SIGKILL)
    first.join(20)
    second = worker(limited, folder, words=words, trained=True)
    second.join(120)
    assert second.exitcode == 0, (folder / "said.txt").read_text()
    trials = Trials(sweep_file.load(str(limited)), f"sqlite:///{folder / 'trials.db'}")
    check_runs(folder, trials)
    check_report(folder, trials, words, capsys)
    trials.close()


def check_runs(folder: Path, trials: Trials) -> None:
    attempts = sorted(trials.attempts().items())
    assert [number for number, _ in attempts] == [0, 1, 2, 3]
    assert {tries[-1].state for _, tries in attempts} == {TrialState.COMPLETE}
    tried = [trials.decode(tries[-1].params) for _, tries in attempts]
    assert [(one["run.seed"], one["model.loss"]) for one in tried] == [
        (0, "nonsaturating"), (0, "minimax"), (0, "least_squares"), (0, "hinge"),
    ]  # fmt: skip
    every = sorted((folder / "runs" / "dcgan").glob("trial-*"))
    assert len(every) == 4
    begun = {run.name: len((run / "command.txt").read_text().splitlines()) for run in every}
    assert begun == {"trial-0000": 1, "trial-0001": 2, "trial-0002": 1, "trial-0003": 1}
    for run, one in zip(every, tried, strict=True):
        rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
        assert [row["images"] for row in rows if row["fd_digits"]] == ["64", "128"]
        assert Run(run).config.model.loss == one["model.loss"]
        assert read_summary(run)["scores"]


def check_report(
    folder: Path, trials: Trials, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = sweep_report.report(trials, folder, words).read_text()
    made = sweep_report.collect_results(trials)
    assert made.best is not None
    assert made.best.value == min(row.value or 0 for row in made.rows)
    loaded = loading.load(str(folder / "dcgan_loss_best.yaml"))
    assert loaded.config.model.loss == made.best.values["model.loss"]
    assert loaded.config.run.images == 128
    assert (loaded.config.run.root, loaded.config.run.id) == ("runs", None)
    run = Run(folder / "runs" / "dcgan" / f"trial-{made.best.trial_number:04d}").config
    assert find_differences(run, loaded.config) == []
    said = "".join(capsys.readouterr().out.split())
    assert f"Trainit:gan-labtrain{folder}/dcgan_loss_best.yaml" in said
    assert all(f"trial {trial_number}" in page for trial_number in range(4))
    assert "least_squares" in page
    # it loads nothing, and links the pages of the trials
    links = set(re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', page))
    assert links == {
        f"runs/dcgan/{trial.name}/report.html"
        for trial in (folder / "runs" / "dcgan").glob("trial-*")
        if (trial / "report.html").is_file()
    }
    trials.ensure_same(
        {
            "overrides": [
                word
                for word in words
                if word.startswith(("run.images=", "run.evaluate_every_images="))
            ]
        }
    )
    again = sweep_report.report(
        trials, folder, []
    ).read_text()  # what the trials had in common is known without being said
    assert loading.load(str(folder / "dcgan_loss_best.yaml")).config.run.images == 128
    assert '"x":[64,128]' in again


def test_sweep_check_tells_the_first_halving_and_the_time(
    tmp_path: Path, data_root: Path, sample: object
) -> None:
    given = yaml.safe_load((sweep_file.sweep_folder() / "wgan_gp_critic.yaml").read_text())
    given["command"][5] = "dcgan"
    given["parameters"] = {
        "model.lr_d": {"min": 1.0e-4, "max": 1.0e-2, "distribution": "log_uniform_values"}
    }
    path = tmp_path / "checked.yaml"
    path.write_text("# Which?\n" + yaml.safe_dump(given))
    words = [*WORDS, f"data.root={data_root}", "run.images=1280"]
    told = CliRunner().invoke(app, ["sweep-check", str(path), *words, "--trials", "7"])
    assert told.exit_code == 0, told.output
    said = " ".join(told.output.split())
    assert (
        "Metric: fd_digits (lower is better), logged at each of 20 evaluations of a trial" in said
    )
    assert (
        "First halving: after 192 images (evaluation 3 of 20). All: 192, 576. "
        "About 1 of 3 trials survives each" in said
    )
    assert re.search(
        r"One trial, measured on this machine: about \d+ (s|min)\. 7 consecutive trials", said
    )

    path.write_text("# Which?\n" + yaml.safe_dump(given | {"metric": {"name": "fd_digit"}}))
    with pytest.raises(
        ValueError, match=r"sweep checked: unknown score 'fd_digit'. Did you mean 'fd_digits'\?"
    ):
        check.check(sweep_file.load(str(path)), words)
