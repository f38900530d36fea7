"""Trainings in several processes, which are killed, pre-empted and started in many ways."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gan_lab.config import loading
from gan_lab.runs.checkpoints import read_checkpoint
from tests.helpers.families import model_words, small
from tests.helpers.processes import Kill, ended, environments, one_after_the_other, start, together
from tests.integration.test_resume import same_end

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ITERATIONS = 60


def words_of(root: Path, data_root: Path, *more: str) -> list[str]:
    return small("gan", root, data_root, f"run.images={16 * ITERATIONS}",
                 "run.evaluate_every_images=240", "log.log_every_images=80",
                 "log.grid_every_images=240", "run.timeout_s=30", *more)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A run of two processes that nothing has disturbed."""
    root = tmp_path_factory.mktemp("whole")
    log = root / "log"
    assert together("gan", words_of(root, data_root, "run.id=whole"), log) == [0, 0], (
        log.read_text()
    )
    return root / "gan" / "whole"


def tiny(name: str, root: Path, data_root: Path) -> list[str]:
    """Overrides for two narrow iterations of an experiment on the sample, of up to 32 pixels.

    Emoji are drawn of 16 pixels, which other tests draw too.
    """
    loaded = loading.load(name).config
    words = [
        "data.source=sample",
        f"data.root={data_root}",
        f"run.root={root}",
        "log.wandb=off",
        "log.progress_bar=false",
    ]
    words += [
        "data.batch_size=4",
        "run.images=8",
        "log.log_every_images=4",
        "metrics.num_fakes=100",
        "metrics.num_reals=100",
        "metrics.allow_small_n=true",
        "metrics.inception_weights=off",
    ]
    size = 16 if loaded.data.name.startswith("emoji") else min(loaded.data.size, 32)
    return [*words, *model_words(loaded.family, width=4, blocks=1), f"data.size={size}"]


@pytest.mark.slow
def test_every_experiment_trains_in_two_processes(tmp_path: Path, data_root: Path) -> None:
    """In one pair, since a start costs more than two iterations."""
    names = [
        name for name in loading.experiments() if loading.load(name).config.data.name != "cifar10"
    ]  # no sample
    pair = one_after_the_other(
        [(name, tiny(name, tmp_path, data_root)) for name in names], tmp_path / "log"
    )
    assert list(pair[0]) == list(pair[1]) == names
    for name in names:
        (iteration, world, losses, weights), other = pair[0][name], pair[1][name]
        assert (iteration, world) == other[:2] == (2, 2), name
        assert [key for key in losses if key.startswith("loss")], name
        assert all(torch.isfinite(torch.tensor(value)) for value in losses.values()), name
        assert losses == other[2], name
        assert all(torch.equal(value, other[3][key]) for key, value in weights.items()), name


def test_srun_trains_what_torchrun_does(whole: Path, tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = words_of(tmp_path, data_root, "run.id=x")
    assert together("gan", words, log, by="srun") == [0, 0], log.read_text()
    same_end(whole, tmp_path / "gan" / "x")


def test_a_rank_is_killed_three_times_and_named(
    whole: Path, tmp_path: Path, data_root: Path
) -> None:
    rng = random.Random(3)
    kills = [(rng.randrange(2), Kill("step", rng.randrange(1, 18)))]
    kills += [(rng.randrange(2), Kill("evaluation", 1)), (0, Kill("writing", 1))]
    words = words_of(tmp_path, data_root, "run.id=x")
    for number, (rank, kill) in enumerate(rng.sample(kills, len(kills))):
        log = tmp_path / f"log{number}"
        codes = together("gan", words, log, {rank: kill})
        assert (codes[rank], codes[1 - rank]) == (-9, 1), (kill, codes, log.read_text())
        assert (
            len(
                re.findall(
                    rf"^[\w.]*LostError: lost rank {rank} of 2,", log.read_text(), re.MULTILINE
                )
            )
            == 1
        )
    assert together("gan", words, tmp_path / "log") == [0, 0]
    same_end(whole, tmp_path / "gan" / "x")


def test_any_rank_is_preempted_twice(whole: Path, tmp_path: Path, data_root: Path) -> None:
    rng = random.Random(4)
    words, folder = words_of(tmp_path, data_root, "run.id=x"), tmp_path / "gan" / "x"
    before = 0
    for number in [signal.SIGTERM, signal.SIGUSR1]:
        log = tmp_path / f"log{before}"
        kill = Kill(
            "step", rng.randrange(1, 18), number
        )  # between the two steps of an iteration, or before both
        assert together("gan", words, log, {rng.randrange(2): kill}) == [143, 143], log.read_text()
        assert "Stopped by signal 15; checkpoint saved" in log.read_text()
        now = read_checkpoint(folder / "checkpoints" / "last.ckpt")["iteration"]
        assert now == before + (kill.count + 1) // 2  # the whole iteration, and no other
        before = now
    assert together("gan", words, tmp_path / "log") == [0, 0]
    same_end(whole, folder)


def test_signal_during_the_start_of_processes_is_not_lost(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = words_of(tmp_path, data_root, "run.id=x")
    first, second = environments(2)
    waiting = start("gan", words, log, environment=first)
    while "data.source=sample" not in (log.read_text() if log.exists() else ""):
        waiting.join(0.05)
        assert waiting.is_alive(), log.read_text()
    waiting.join(1.0)  # it waits for the other now
    os.kill(waiting.pid, signal.SIGUSR1)
    assert ended([waiting, start("gan", words, log, environment=second)]) == [143, 143], (
        log.read_text()
    )
    assert read_checkpoint(tmp_path / "gan" / "x" / "checkpoints" / "last.ckpt")["iteration"] == 1


def test_a_requeued_job_continues_in_the_same_wandb_run(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = words_of(tmp_path, data_root, "run.id=x", "log.wandb=offline", "run.images=480")
    once = start("gan", words, log, Kill("step", 15, signal.SIGUSR1), {"SLURM_JOB_ID": "7"})
    assert ended([once]) == [143], log.read_text()
    again = start("gan", words, log, environment={"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert ended([again]) == [0], log.read_text()
    first, second = sorted((tmp_path / "gan" / "x" / "wandb").glob("offline-run-*"))
    assert [path.name for path in first.glob("*.wandb")] == [
        path.name for path in second.glob("*.wandb")
    ]  # run-<id>.wandb
    for record, marked in ((first, True), (second, False)):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        assert ('"type":"preempting"' in said) is marked
        assert '"type":"exit"' in said


# --------------------------------------------------------------------------------------------------
# the real launchers


@pytest.mark.slow
def test_torchrun_starts_a_killed_pair_again_to_the_same_end(
    whole: Path, tmp_path: Path, data_root: Path
) -> None:
    words = words_of(
        tmp_path, data_root, "run.id=x", "run.overwrite=true"
    )  # which only the first start does
    command = [
        *TORCHRUN,
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=1",
        "-m",
        "tests.helpers.dying",
        "train",
        "gan",
    ]
    dying = os.environ | {"DYING": "1 41"}
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=240, env=dying
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: lost rank 1 of 2") == 1
    assert re.search(r"Resuming .* from iteration (15|16|17|18|19|20)\n", done.stdout)
    same_end(whole, tmp_path / "gan" / "x")


@pytest.fixture
def two_nodes() -> Iterator[list[list[str]]]:
    """Command prefixes that run on two machines with the addresses 10.77.0.1 and 10.77.0.2."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = [f"lab{os.getpid()}{side}" for side in "ab"]
    steps = [
        f"netns add {names[0]}",
        f"netns add {names[1]}",
        f"link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}",
    ]
    for number, name in enumerate(names, 1):
        steps += [
            f"-n {name} address add 10.77.0.{number}/24 dev {name}",
            f"-n {name} link set {name} up",
            f"-n {name} link set lo up",
        ]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {step}: {done.stderr.strip()}")
        yield [["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={name}"] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.slow
def test_two_machines_train_by_torchrun(
    two_nodes: list[list[str]], tmp_path: Path, data_root: Path
) -> None:
    words = words_of(tmp_path, data_root, "run.id=x", "run.images=32")
    every = []
    for number, prefix in enumerate(two_nodes, 1):
        command = [*prefix, *TORCHRUN, "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
                   "--rdzv-id=x", "--rdzv-endpoint=10.77.0.1:29400",
                   f"--rdzv-conf=is_host={'true' if number == 1 else 'false'}",
                   f"--local-addr=10.77.0.{number}", "-m", "tests.helpers.dying", "train", "gan",
                   *words]  # fmt: skip
        every.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [process.communicate(timeout=240)[0] for process in every]
    assert [process.returncode for process in every] == [0, 0], said
    assert ["gan/x: 32 images" in text for text in said].count(
        True
    ) == 1  # the table, of the first process alone
    checkpoint = read_checkpoint(tmp_path / "gan" / "x" / "checkpoints" / "last.ckpt")
    assert (checkpoint["iteration"], len(checkpoint["callbacks"]["CSVLogger"]["ranks"])) == (2, 2)
