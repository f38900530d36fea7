"""The real ``wandb sweep`` and ``wandb agent`` on each shipped file, and sweeps with a key."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gan_lab.config import loading
from gan_lab.sweeps import sweep_file, wandb_agents
from tests.helpers.logs import logged
from tests.helpers.wandb_server import Server, serving

NAMES = sorted(sweep_file.list_sweeps())
# Stands for "python" on the agent's path: notes its words; of the trials of dcgan it runs one.
PYTHON = """#!/bin/sh
printf '%s\\n' "$@" > "words-$WANDB_SWEEP_ID-$WANDB_RUN_ID.txt"
if [ "$WANDB_SWEEP_ID" = "{real}" ]; then exec {python} "$@" {words}; fi
"""
# Both commands in one process, which saves the imports; the agent asks for work every 5 seconds
# otherwise.
DRIVER = """
import sys
from wandb.cli.cli import cli
from wandb.wandb_agent import Agent
Agent.POLL_INTERVAL = 0.1
for number, path in enumerate(sys.argv[1:]):
    cli(["sweep", "--project", "gan-lab", path], standalone_mode=False)
    cli(["agent", "--project", "gan-lab", f"sweep{number}"], standalone_mode=False)
"""
AGENT = (
    "import sys; from wandb.wandb_agent import Agent; Agent.POLL_INTERVAL = 0.1; "
    "from wandb.cli.cli import cli; cli()"
)
TINY = ["data.source=sample", "log.wandb=offline", "log.progress_bar=false", "run.images=128",
        "run.evaluate_every_images=64", "metrics.num_fakes=64", "metrics.num_reals=64",
        "metrics.allow_small_n=true", "metrics.inception_weights=off", "model.width=8",
        "log.grid_every_images=128", "run.root=runs"]  # fmt: skip


def ends(sweep: sweep_file.Sweep) -> list[dict[str, Any]]:
    """Two trials: all parameters at their first end, and at their last."""
    return [{p.key: p.boundary_values()[i] for p in sweep.parameters} for i in (0, -1)]


def environment(folder: Path, server: Server) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return kept | {
        "WANDB_BASE_URL": server.address,
        "WANDB_API_KEY": "0" * 40,
        "HOME": str(folder),
        "PATH": f"{folder}{os.pathsep}{kept['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def stand_in(folder: Path, real: str = "none", words: list[str] | None = None) -> None:
    (folder / "python").write_text(
        PYTHON.format(real=real, python=sys.executable, words=" ".join(words or []))
    )
    (folder / "python").chmod(0o755)


@pytest.mark.slow
def test_wandb_agent_passes_the_arguments_of_the_local_engine(
    tmp_path: Path, sample: object, data_root: Path
) -> None:
    """Two trials each, of dcgan_loss one, which is a training whose offline record is read."""
    folder = tmp_path
    sweeps = [sweep_file.load(name) for name in NAMES]
    trials = [ends(sweep) for sweep in sweeps]
    real = NAMES.index("dcgan_loss")
    del trials[real][1]
    stand_in(folder, f"sweep{real}", [*TINY, f"data.root={data_root}"])
    with serving(Server(trials)) as server:
        files = [str(sweep_file.sweep_folder() / f"{name}.yaml") for name in NAMES]
        done = subprocess.run([sys.executable, "-c", DRIVER, *files],
                              env=environment(folder, server), cwd=folder, capture_output=True,
                              text=True, timeout=180)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        check_words(folder, server, name)
    assert {"Viewer", "UpsertSweep", "SweepWithRuns", "CreateAgent", "Heartbeat"} <= set(
        server.operations
    )
    check_record(folder)


def read_arguments(folder: Path, name: str) -> list[list[str]]:
    found = sorted(
        folder.glob(f"words-sweep{NAMES.index(name)}-*.txt"),
        key=lambda path: path.stat().st_mtime_ns,
    )
    return [path.read_text().splitlines() for path in found]


def check_words(folder: Path, server: Server, name: str) -> None:
    sweep = sweep_file.load(name)
    given = ends(sweep)[: 1 if name == "dcgan_loss" else 2]
    assert read_arguments(folder, name) == [sweep.trial_command(values)[2:] for values in given]
    for words, values in zip(read_arguments(folder, name), given, strict=True):
        assert words[:4] == ["-m", "gan_lab", "train", sweep.experiment]
        loaded = loading.load(sweep.experiment, words[4:])
        for key, value in values.items():
            got = getattr(
                loaded.config.model if key.startswith("model.") else loaded.config.run,
                key.partition(".")[2],
            )
            assert (list(got) if isinstance(value, list) else got) == value
    assert yaml.safe_load(server.configs[NAMES.index(name)]) == yaml.safe_load(
        (sweep_file.sweep_folder() / f"{name}.yaml").read_text()
    )


def check_record(folder: Path) -> None:
    (record,) = folder.glob("runs/dcgan/*/wandb/offline-run-*")
    told = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", record],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    records = [json.loads(line) for line in told.stdout.splitlines()]
    (run,) = [one["run"] for one in records if one["type"] == "run"]
    recorded = run["config"]["update"]
    assert (recorded["model"]["loss"], recorded["run"]["seed"]) == ("nonsaturating", 0)
    assert (run["sweep_id"], run["run_id"]) == (f"sweep{NAMES.index('dcgan_loss')}", run_of(folder))
    rows = [
        one["history"]["item"]
        for one in records
        if "fd_digits" in one.get("history", {}).get("item", {})
    ]
    assert [row["images"] for row in rows] == [64, 128]  # once for each evaluation
    (written,) = folder.glob("runs/dcgan/*/metrics.csv")
    with written.open() as table:
        assert [float(row["fd_digits"]) for row in csv.DictReader(table)] == [
            row["fd_digits"] for row in rows
        ]
    axes = [one["metric"] for one in records if one["type"] == "metric"]
    assert {axis.get("glob_name"): axis.get("step_metric") for axis in axes}["*"] == "images"


def run_of(folder: Path) -> str:
    (path,) = folder.glob(f"words-sweep{NAMES.index('dcgan_loss')}-*.txt")
    return path.stem.rpartition("-")[2]


def test_sweep_with_wandb_key_is_created_once_and_runs_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_file.load("wgan_gp_critic")
    created: list[Mapping[str, Any]] = []

    def create(given: Mapping[str, Any], project: str) -> str:
        created.append(given)
        server.configs.append(yaml.safe_dump(dict(given)))
        return f"sweep{len(created) - 1}"

    monkeypatch.setattr("wandb.sweep", create)
    monkeypatch.setattr(
        wandb_agents, "AGENT_COMMAND", [sys.executable, "-c", AGENT, "agent", "--forward-signals"]
    )
    stand_in(tmp_path)
    with serving(Server([[ends(sweep)[0]], []])) as server, logged() as said:
        for name, value in environment(tmp_path, server).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(wandb_agents, "interpreter_folder", lambda: str(tmp_path))
        for _ in range(2):
            assert wandb_agents.run(sweep, tmp_path / "sweep", ["run.images=64"], 1, 5) == 0
    assert [given["run_cap"] for given in created] == [5]
    assert said == ["Resuming the W&B sweep sweep0"]
    (words,) = [path.read_text().splitlines() for path in tmp_path.glob("words-*.txt")]
    assert words == [
        "-m",
        "gan_lab",
        "train",
        "wgan_gp",
        "run.images=64",
        "model.n_critic=1",
        "model.gp_weight=0.1",
    ]
