"""What the launcher says is what the lab does; and who is lost is named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed

from gan_lab.config.loading import load
from gan_lab.config.schema import RunConfig
from gan_lab.distributed import ddp_strategy, detect
from gan_lab.distributed.detect import Launch
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.run_folder import RunFolder
from tests.helpers.families import small
from tests.helpers.processes import CONTEXT, Kill, ended, environments, start, train

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "RANK": "3",
    "LOCAL_RANK": "1",
}
SRUN = {"SLURM_JOB_NAME": "gan", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_ID": "0"}  # fmt: skip


@pytest.fixture
def set_launcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Called with variables: the environment has these of a launcher's, and no others."""

    def tell(**variables: str) -> None:
        for name in list(os.environ):
            if name.startswith(("SLURM_", "TORCHELASTIC_", "LOCAL_", "NODE_")) or name in (
                "RANK",
                "WORLD_SIZE",
                "GROUP_RANK",
            ):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    tell()
    return tell


@pytest.mark.parametrize(
    ("variables", "keys", "expected"),
    [
        ({}, {}, Launch()),
        ({}, {"devices": "2", "num_nodes": 3}, Launch("plain", 2, 3, 0)),
        (
            {"NODE_RANK": "1", "LOCAL_RANK": "1"},
            {"devices": "2", "num_nodes": 3},
            Launch("plain", 2, 3, 3, True),
        ),
        (TORCHRUN, {}, Launch("torchrun", 2, 2, 3)),
        (TORCHRUN, {"devices": "2", "num_nodes": 2}, Launch("torchrun", 2, 2, 3)),
        (TORCHRUN, {"devices": "0,3"}, Launch("torchrun", 2, 2, 3)),
        (TORCHRUN, {"devices": "auto"}, Launch("torchrun", 2, 2, 3)),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"}, {}, Launch("torchrun", 2, 2, 3, True)),
        (SRUN, {}, Launch("srun", 2, 2, 3)),
        (SRUN, {"devices": "2", "num_nodes": 2}, Launch("srun", 2, 2, 3)),
        (SRUN | {"SLURM_RESTART_COUNT": "0"}, {}, Launch("srun", 2, 2, 3)),
        (SRUN | {"SLURM_RESTART_COUNT": "2"}, {}, Launch("srun", 2, 2, 3, True)),
        (
            SRUN | TORCHRUN,
            {},
            Launch("torchrun", 2, 2, 3),
        ),  # torchrun, which srun started on each machine
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, {"devices": "2"}, Launch("plain", 2, 1, 0)),
    ],
)
def test_a_training_has_the_processes_that_were_started(
    variables: dict[str, str], keys: dict[str, Any], expected: Launch, set_launcher: Any
) -> None:
    set_launcher(**variables)
    assert detect.detect_launcher(RunConfig(**keys)) == expected


@pytest.mark.parametrize(
    ("variables", "keys", "expected"),
    [
        (
            TORCHRUN,
            {"devices": "3"},
            "run.devices=3, but torchrun started 2 processes .* or start with --nproc-per-node=3",
        ),
        (
            TORCHRUN,
            {"num_nodes": 1},
            "run.num_nodes=1, but torchrun started processes on 2 machines.* --nnodes=1",
        ),
        (
            SRUN,
            {"devices": "4"},
            "run.devices=4, but srun started 2 processes .* or start with --ntasks-per-node=4",
        ),
        (
            SRUN,
            {"num_nodes": 3},
            "run.num_nodes=3, but srun started processes on 2 machines.* --nodes=3",
        ),
        (
            {key: SRUN[key] for key in SRUN if key != "SLURM_STEP_ID"},
            {},
            "the job has 4 tasks, but srun did not start this",
        ),
        (
            SRUN | {"SLURM_STEP_ID": "4294967291"},
            {},
            "the job has 4 tasks, but srun did not start this process. Use srun gan",
        ),
        (
            SRUN | {"SLURM_NTASKS": "3"},
            {},
            "srun started 3 processes on 2 machines. Start the same number on each",
        ),
    ],
)
def test_a_mismatch_names_both_numbers(
    variables: dict[str, str], keys: dict[str, Any], expected: str, set_launcher: Any
) -> None:
    set_launcher(**variables)
    with pytest.raises(ValueError, match=expected):
        detect.detect_launcher(RunConfig(**keys))


def test_a_dry_run_needs_one_process_whoever_started_it(set_launcher: Any) -> None:
    set_launcher(**SRUN)
    options = ddp_strategy.trainer_options(detect.SINGLE_PROCESS, RunConfig())
    assert (options["devices"], options["num_nodes"], options["strategy"]) == ("1", 1, "auto")


@pytest.mark.parametrize(
    ("gpus", "world", "synchronized"), [(True, 2, True), (True, 1, False), (False, 2, False)]
)
def test_batch_norm_is_synchronized_where_several_gpus_train(
    gpus: bool, world: int, synchronized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    assert (
        ddp_strategy.trainer_options(Launch("torchrun", world), RunConfig())["sync_batchnorm"]
        is synchronized
    )


def test_the_strategy_waits_as_long_as_it_is_told() -> None:
    chosen = ddp_strategy.trainer_options(Launch("torchrun", 2), RunConfig(timeout_s=7))["strategy"]
    assert chosen._timeout == timedelta(seconds=7)


def test_a_process_leaves_its_group_before_the_interpreter_exits() -> None:
    """Gloo's threads must not outlive the interpreter: they sometimes abort the process."""
    program = """
import atexit
from torch import distributed
# Functions run in reverse order: this one sees what the strategy's has done.
atexit.register(lambda: print("joined" if distributed.is_initialized() else "left"))
import lightning, torch
from gan_lab.config.schema import RunConfig
from gan_lab.distributed import ddp_strategy, detect
launched = detect.detect_launcher(RunConfig())
strategy = ddp_strategy.ManualDDPStrategy(launched, timeout_s=30)
trainer = lightning.Trainer(
    accelerator="cpu", strategy=strategy, plugins=[ddp_strategy.create_environment(launched)],
    logger=False, enable_checkpointing=False, max_steps=1, enable_progress_bar=False,
)
from lightning.pytorch.demos.boring_classes import BoringModel
trainer.fit(BoringModel())
assert distributed.get_backend() == "gloo"
"""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    finished = subprocess.run(
        [*torchrun, sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.split()[-1] == "left", "the process exited with its process group"


def test_slurm_is_taken_as_it_is_and_requeues_nothing_by_itself(set_launcher: Any) -> None:
    set_launcher(**SRUN)  # srun -n 4, of which Lightning demands another spelling
    environment: Any = ddp_strategy.create_environment(detect.detect_launcher(RunConfig()))
    assert (environment.global_rank(), environment.world_size(), environment.auto_requeue) == (
        3,
        4,
        False,
    )
    environment.validate_settings(num_devices=2, num_nodes=2)


# --------------------------------------------------------------------------------------------------
# the lost


def test_the_roll_is_called_and_the_first_of_those_left_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = distributed.HashStore()
    monkeypatch.setattr(detect, "default_store", lambda: store)
    monkeypatch.setattr(detect, "ROLL_CALL_TIMEOUT_S", 0.3)
    heard: dict[int, tuple[bool, list[int]]] = {}

    def answer(rank: int) -> None:
        heard[rank] = detect.call_roll(Launch("torchrun", 4, 1, rank))

    threads = [threading.Thread(target=answer, args=(rank,)) for rank in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {1: (True, [0, 2]), 3: (False, [0, 2])}


def test_all_answer_where_only_the_connection_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store = distributed.PrefixStore("roll call", distributed.HashStore())
    store.set("1", "here")
    store.add("counted", 1)
    monkeypatch.setattr(detect, "default_store", lambda: store.underlying_store)
    assert detect.call_roll(Launch("torchrun", 2, 1, 0)) == (True, [])


@pytest.mark.parametrize(("rank", "speaks"), [(1, True), (2, False), (4, True)])
def test_a_store_that_is_gone_was_of_the_first_process(
    rank: int, speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise distributed.DistNetworkError("no store")

    monkeypatch.setattr(detect, "default_store", gone)
    assert detect.call_roll(Launch("torchrun", 4, 2, rank)) == (speaks, [0])  # one on each machine


@pytest.mark.parametrize(
    ("speaks", "absent", "expected"),
    [
        (
            True,
            [2],
            r"lost rank 2 of 4, counted from 0: Connection closed by peer\. A lost rank was killed",
        ),
        (True, [1, 2], "lost ranks 1, 2 of 4"),
        (True, [], "all 4 ranks run, but cannot reach one another"),
        (False, [2], "2"),
    ],
)
def test_one_process_alone_says_who_is_lost(
    speaks: bool, absent: list[int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(detect, "call_roll", lambda launched: (speaks, absent))
    error = RuntimeError(
        "[/a/gloo/transport/tcp/pair.cc:561] Connection closed by peer. "
        "This is typical of something"
    )
    with pytest.raises(detect.LostError if speaks else SystemExit, match=expected):
        raise detect.explain_lost_ranks(Launch("torchrun", 4), error, 300)


def test_processes_that_do_not_come_are_counted_on_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = detect.explain_lost_ranks(
        Launch("srun", 2, 3), distributed.DistStoreError("timed out"), 5
    )
    said = str(error)
    assert (
        "timed out after 5 s (run.timeout_s) waiting for 6 ranks: timed out. "
        "Check that 3 machines started 2" in said
    )


def test_only_a_lost_connection_is_taken_for_one() -> None:
    assert detect.is_connection_error(
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error")
    )
    assert detect.is_connection_error(distributed.DistBackendError("NCCL"))
    assert not detect.is_connection_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not detect.is_connection_error(ValueError("gloo"))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("exit 3", "error: rank 5 exited with code 3. Ending all other ranks"),
        ("kill -9 $$", "error: rank 5 was killed by signal 9 (SIGKILL). Ending all other ranks"),
    ],
)
def test_a_process_that_the_lab_started_and_that_failed_ends_all(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    over = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        over.set()

    monkeypatch.setattr(ddp_strategy.os, "_exit", end)
    monkeypatch.setattr(detect, "ROLL_CALL_TIMEOUT_S", 0.01)
    children = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sh", "-c", command])]
    ddp_strategy.watch_children(children, 4, over)
    assert codes == [2]
    assert children[0].wait() == -9
    assert capsys.readouterr().err.strip() == expected


# --------------------------------------------------------------------------------------------------
# trainings


def test_a_job_that_was_requeued_overwrites_nothing(tmp_path: Path, data_root: Path) -> None:
    log = tmp_path / "log"
    words = small(
        "gan",
        tmp_path,
        data_root,
        "run.id=x",
        "run.overwrite=true",
        "run.evaluate_every_images=160",
    )
    assert train("gan", [*words, "run.images=320"], log, Kill("step", 30)) == -9
    again = start("gan", [*words, "run.images=320"], log, environment={"SLURM_RESTART_COUNT": "1"})
    assert ended([again]) == [0], log.read_text()
    assert f"Resuming {tmp_path / 'gan' / 'x'} from iteration" in log.read_text()


def test_processes_that_begin_at_different_places_are_told_so(
    tmp_path: Path, data_root: Path
) -> None:
    """On two machines, of which one does not see the run of the other."""
    log = tmp_path / "log"
    words = small("gan", tmp_path, data_root, "run.id=x", "run.timeout_s=60")
    assert train("gan", [*words, "run.images=160"], log) == 0, log.read_text()
    elsewhere = [*words, "run.images=320", f"run.root={tmp_path / 'elsewhere'}"]
    first, second = environments(2)
    pair = [start("gan", [*words, "run.images=320"], log, environment=first),
            start("gan", elsewhere, log, environment=second)]  # fmt: skip
    assert 0 not in ended(pair)
    lost = tmp_path / "elsewhere" / "gan" / "x" / "checkpoints" / "iteration-00000010.ckpt"
    assert f"rank 1 has no {lost}, from which rank 0 resumes. run.root must" in log.read_text()
    assert read_checkpoint(tmp_path / "gan" / "x" / "checkpoints" / "last.ckpt")["iteration"] == 10


def _choose(environment: dict[str, str], folder: Path, log: Path) -> None:
    """Choose the checkpoint as one rank of a training; write its path to the log."""
    os.environ.update(environment)
    from gan_lab.training import builder, loop

    own_rank = int(environment["RANK"])
    builder.rank_zero_only.rank = own_rank
    # an ending job wrote its last checkpoint after rank 1 looked, and before rank 0 did
    loop.latest_checkpoint = lambda run: (
        run / "checkpoints" / ("last.ckpt" if own_rank else "iteration-20.ckpt")
    )
    config = load("gan").config
    trainer = builder.build_trainer(config, [], detect.detect_launcher(config.run))
    checkpoint = SimpleNamespace(listen=lambda *_: None)
    built: Any = SimpleNamespace(
        run=RunFolder(folder), config=config, trainer=trainer, checkpoint=checkpoint
    )
    path = loop.choose_checkpoint(built)
    # what fit does next
    trainer.strategy.setup_environment()
    trainer.strategy.barrier()
    with log.open("a") as file:
        file.write(f"{own_rank} {path}\n")
    os._exit(0)


def test_all_ranks_resume_from_the_checkpoint_of_rank_0(tmp_path: Path) -> None:
    """Only rank 0 holds the lock of the run folder, so only it looks for the checkpoint."""
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for name in ("last.ckpt", "iteration-20.ckpt"):
        (checkpoints / name).touch()
    log = tmp_path / "log"
    pair = [
        CONTEXT.Process(target=_choose, args=(environment, tmp_path, log))
        for environment in environments(2)
    ]
    for process in pair:
        process.start()
    assert ended(pair, 60) == [0, 0]
    expected = checkpoints / "iteration-20.ckpt"
    assert sorted(log.read_text().splitlines()) == [f"0 {expected}", f"1 {expected}"]
