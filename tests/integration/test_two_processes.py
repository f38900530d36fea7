"""Two processes over gloo do exactly what one process does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.training import builder
from tests.helpers.families import (
    augmented,
    batch_of,
    degraded,
    every_family,
    experiment_of,
    image_by_image,
    small,
)
from tests.helpers.faults import PROCESSES, assert_close
from tests.helpers.processes import train


@every_family
def test_two_processes_equal_one_in_noise_weights_and_scores(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    experiment, log = experiment_of(family), tmp_path / "log"
    batch = batch_of(family)
    words = small(family, tmp_path, data_root, "run.precision=64-true", f"data.batch_size={batch}",
                  f"run.images={6 * batch}", f"run.evaluate_every_images={3 * batch}",
                  f"log.log_every_images={batch}")  # fmt: skip
    # batch norm sees its own share of the batch only; dropout has torch's own draws, which each
    # process has for itself
    words += [*image_by_image(family, n_critic=2), *augmented(family), *degraded(family)]
    assert train(experiment, [*words, "run.id=one"], log, draws=str(tmp_path / "one")) == 0, (
        log.read_text()
    )
    two = [*words, "run.id=two", "run.devices=2"]
    # rank 0 alone draws more grids, whenever its clock says so
    clock = {"FIRST_GRID": "0"}
    code = train(experiment, two, log, world=2, draws=str(tmp_path / "two"), environment=clock)
    assert code == 0, log.read_text()
    grids = {
        name: {path.name for path in (tmp_path / experiment / name / "samples").iterdir()}
        for name in ("one", "two")
    }
    assert grids["one"] < grids["two"]

    draws = {
        name: torch.load(tmp_path / f"{name}.pt")
        for name in ("one-rank0", "two-rank0", "two-rank1")
    }
    for purpose in {what for what, *_ in draws["one-rank0"]}:
        whole, left, right = (
            {index: z for what, index, z in draws[name] if what == purpose}
            for name in ("one-rank0", "two-rank0", "two-rank1")
        )
        assert whole.keys() == left.keys() == right.keys()
        assert whole.keys()
        for index in whole:
            assert not torch.equal(left[index], right[index]), (
                f"both ranks draw the same {purpose}: use self.stream"
            )
            assert torch.equal(torch.cat([left[index], right[index]]), whole[index]), (
                f"{purpose}: {PROCESSES}"
            )

    one, other = (
        read_checkpoint(tmp_path / experiment / name / "checkpoints" / "last.ckpt")
        for name in ("one", "two")
    )
    for part in ("state_dict", "ema"):
        assert_close(_tensors(other[part]), _tensors(one[part]), PROCESSES)
    files = [tmp_path / experiment / name / "metrics.csv" for name in ("one", "two")]
    rows = [list(csv.DictReader(file.read_text().splitlines())) for file in files]
    assert len(rows[0]) == len(rows[1]) == 6
    for a, b in zip(*rows, strict=True):
        assert {k: float(v) for k, v in a.items() if v} == pytest.approx(
            {k: float(v) for k, v in b.items() if v}, rel=1e-6, abs=1e-9
        ), PROCESSES


def _tensors(tree: dict[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of nested dicts by their path."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in tree.items():
        flat |= (
            _tensors(value, f"{prefix}{name}/")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat


def test_ranks_hold_equal_weights_and_a_killed_pair_continues(
    tmp_path: Path, data_root: Path
) -> None:
    """With batch norm and the default precision.

    Lightning compares nothing itself, so the ranks report their weights.
    """
    log = tmp_path / "log"
    words = small(
        "cgan",
        tmp_path,
        data_root,
        "run.images=320",
        "run.evaluate_every_images=80",
        "log.log_every_images=32",
        "run.devices=2",
    )
    assert train("cgan", [*words, "run.id=whole"], log, world=2) == 0, log.read_text()
    assert train("cgan", [*words, "run.id=halves", "run.images=160"], log, world=2) == 0, (
        log.read_text()
    )
    assert train("cgan", [*words, "run.id=halves"], log, world=2) == 0, log.read_text()
    whole, halves = (tmp_path / "cgan" / name for name in ("whole", "halves"))
    a, b = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, halves))
    parameters = [name for name in a["state_dict"] if "running" not in name]
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in parameters)
    assert (whole / "metrics.csv").read_bytes() == (halves / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_the_lab_launches_the_processes_itself(tmp_path: Path, data_root: Path) -> None:
    """And ends them all when one of them is killed; the same command continues."""
    words = small("gan", tmp_path, data_root, "run.images=160", "run.devices=2", "run.id=pair")
    command = [sys.executable, "-m", "tests.helpers.dying", "train", "gan", *words]
    dying = os.environ | {"DYING": "1 5"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env=dying)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("error: lost rank 1 of 2") == 1
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert (
        read_checkpoint(tmp_path / "gan" / "pair" / "checkpoints" / "last.ckpt")["iteration"] == 10
    )
    assert ended.stdout.count("gan/pair: 160 images") == 1  # the table of rank 0 alone


def test_batch_norm_over_shares_of_the_batch_is_said(tmp_path: Path, data_root: Path) -> None:
    """Two CPU processes normalize by 8 images each, as two micro-batches do; one by 16.

    The lab reports it, and nothing without batch norm.
    """
    on_cpus = 0 if torch.cuda.is_available() else 1
    for world, words, count in (
        (2, ["model.norm=batch"], on_cpus),
        (2, ["model.norm=none", "run.micro_batches=2"], 0),
        (1, ["model.norm=batch", "run.micro_batches=2"], 1),
        (1, ["model.norm=batch"], 0),
    ):
        launched = SimpleNamespace(world_size=world)
        config = loading.load("dcgan", small("gan", tmp_path, data_root, *words)).config
        family = builder.build_family(config, datasets.load(config.data, 0))
        notes = builder.explain_batch_norm(config, family, launched)  # type: ignore[arg-type]
        assert len(notes) == count
        assert all(
            "batch norm uses the statistics of 8 images instead of the whole batch of 16" in note
            for note in notes
        )
