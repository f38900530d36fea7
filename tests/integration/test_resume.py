"""A run that is killed at any time and resumed equals an uninterrupted run bit for bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gan_lab.config import loading
from gan_lab.runs.checkpoints import latest_checkpoint, read_checkpoint
from tests.helpers.families import FAMILIES, augmented, batch_of, degraded, experiment_of, small
from tests.helpers.faults import RESUMED
from tests.helpers.processes import Kill, start, train


def equal(a: Any, b: Any) -> bool:
    """Whether two nested containers hold the same values, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def same_end(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        a, b = (read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for folder in (one, other))
        for part in ("iteration", "state_dict", "optimizer_states", "ema"):
            assert equal(a[part], b[part]), f"{part} of {name}.ckpt: {RESUMED}"
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes(), (
        f"metrics.csv: {RESUMED}"
    )
    grids = sorted(path.name for path in (one / "samples").glob("*.png"))
    assert grids == sorted(path.name for path in (other / "samples").glob("*.png"))
    for name in grids:
        # the files also name their runs
        with Image.open(one / "samples" / name) as a, Image.open(other / "samples" / name) as b:
            assert a.tobytes() == b.tobytes(), name


# One experiment for each kind of state that a checkpoint holds is killed at every place: batch
# norm, spectral norm, and the history of fakes of CycleGAN's image pool. What the evaluation and
# the writing of a checkpoint do is the same code for all families, so the others are killed in a
# step.
KILLED_EVERYWHERE = ("dcgan", "sngan", "cyclegan")


@pytest.mark.parametrize("experiment", [*map(experiment_of, FAMILIES), "dcgan"])
def test_killed_and_resumed_run_is_bit_equal_to_uninterrupted(
    experiment: str, tmp_path: Path, data_root: Path
) -> None:
    family, log = loading.load(experiment).config.family, tmp_path / "log"
    # 100 iterations of 50 run over the border of the first pass, at iteration 74: the order is the
    # same for all families
    iterations, batch = (100, 50) if experiment == "dcgan" else (40, batch_of(family))
    words = small(family, tmp_path, data_root, f"data.batch_size={batch}",
                  f"run.images={batch * iterations}",
                  f"run.evaluate_every_images={iterations // 4 * batch}",
                  f"log.log_every_images={iterations // 11 * batch}",
                  f"log.grid_every_images={iterations // 3 * batch}")  # fmt: skip
    words += [*augmented(family), *degraded(family)]
    assert train(experiment, [*words, "run.id=whole"], log) == 0, log.read_text()

    rng = random.Random(experiment)
    # the optimizers step once to three times in an iteration: this is after the first evaluation
    kills = [Kill("step", rng.randrange(iterations, iterations * 6 // 5))]
    if experiment in KILLED_EVERYWHERE:
        kills += [
            Kill("evaluation", rng.randrange(1, 3)),
            Kill(rng.choice(["writing", "renaming"]), 1),
        ]
    for kill in kills:
        assert train(experiment, [*words, "run.id=killed"], log, kill) == -9, (
            f"{kill} did not strike"
        )
        assert latest_checkpoint(tmp_path / experiment / "killed"), "nothing to resume from"
    assert train(experiment, [*words, "run.id=killed"], log) == 0, log.read_text()
    whole, killed = (tmp_path / experiment / name for name in ("whole", "killed"))
    assert read_checkpoint(whole / "checkpoints" / "last.ckpt")["iteration"] == iterations
    same_end(whole, killed)


def test_a_run_killed_from_outside_at_random_times_is_bit_equal_too(
    tmp_path: Path, data_root: Path
) -> None:
    log = tmp_path / "log"
    words = small(
        "gan",
        tmp_path,
        data_root,
        "run.images=6400",
        "run.evaluate_every_images=2000",
        "log.log_every_images=150",
    )
    assert train("gan", [*words, "run.id=whole"], log) == 0, log.read_text()
    rng = random.Random(1)
    for _ in range(3):
        process = start("gan", [*words, "run.id=killed"], log)
        process.join(rng.uniform(1.0, 3.0))
        process.kill()
        process.join()
    assert train("gan", [*words, "run.id=killed"], log) == 0, log.read_text()
    same_end(tmp_path / "gan" / "whole", tmp_path / "gan" / "killed")


def test_a_truncated_newest_checkpoint_is_passed_over(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = small(
        "gan", tmp_path, data_root, "run.evaluate_every_images=320", "log.log_every_images=150"
    )
    assert train("gan", [*words, "run.id=whole", "run.images=1280"], log) == 0, log.read_text()
    assert train("gan", [*words, "run.id=torn", "run.images=960"], log) == 0, log.read_text()
    folder = tmp_path / "gan" / "torn"
    newest = sorted((folder / "checkpoints").glob("iteration-*.ckpt"))[-1]
    assert newest.name == "iteration-00000060.ckpt"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.warns(
        UserWarning,
        match="Skipping a checkpoint: The checkpoint .*iteration-00000060.ckpt is corrupt",
    ):
        older = latest_checkpoint(folder)
    assert older is not None
    assert "iteration-00000040.ckpt" <= older.name < "iteration-00000060.ckpt"
    assert train("gan", [*words, "run.id=torn", "run.images=1280"], log) == 0, log.read_text()
    a, b = (
        read_checkpoint(tmp_path / "gan" / name / "checkpoints" / "last.ckpt")
        for name in ("whole", "torn")
    )
    assert equal(a["state_dict"], b["state_dict"])
