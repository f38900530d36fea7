"""The doctor finds faults: each check sees a broken machine, and all checks see this one."""

from __future__ import annotations

import re
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gan_lab import cli, doctor
from gan_lab.config.loading import load
from gan_lab.config.schema import Config
from gan_lab.doctor import check_files, check_machine, check_processes, reduce
from gan_lab.doctor.finding import Finding
from tests.helpers.logs import logged

GB = 10**9


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *check_processes.LAUNCHER_VARIABLES,
        "SLURM_JOB_ID",
        "SLURM_PROCID",
        "GROUP_RANK",
        "NODE_RANK",
        "SLURM_NODEID",
    ):
        monkeypatch.delenv(name, raising=False)


def config(*words: str) -> Config:
    return load("cgan", words).config


def test_each_thing_is_one_line_and_this_machine_can_train(tmp_path: Path) -> None:
    started = time.monotonic()
    with logged() as said:
        code = doctor.examine([f"run.root={tmp_path}/runs", f"data.root={tmp_path}/data"])
    assert time.monotonic() - started < 60
    assert [line[6:19].strip() for line in said[:-1]] == list(doctor.CHECKS)
    assert all(len(line.splitlines()) == 1 for line in said)
    failed = [line for line in said if line.startswith("FAIL")]
    assert (code, failed) == (0, [])
    assert "2 processes with gloo" in said[-2] or torch.cuda.device_count() > 1
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_failed_check_is_one_line_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Config) -> Finding:
        raise ImportError("libcudart.so.13: cannot open shared object file\nand more")

    checks: dict[str, Callable[[Config], Finding]] = {
        "torch": broken,
        "small": lambda _: Finding("warn", "little", "more"),
        "python": lambda _: Finding("ok", "fine"),
    }
    monkeypatch.setattr(doctor, "CHECKS", checks)
    with logged() as said:
        assert doctor.examine([]) == 2
    assert said == [
        "FAIL  torch         ImportError: libcudart.so.13: cannot open shared object file; "
        "run make clean setup to install the versions of requirements.lock",
        "warn  small         little; more",
        "ok    python        fine",
        "1 ok, 1 warn, 1 failed",
    ]
    monkeypatch.setattr("sys.argv", ["gan-lab", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_a_word_that_a_training_would_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("Did you mean 'data.root'?")):
        doctor.examine(["data.rot=x"])


# --------------------------------------------------------------------------------------------------
# this machine


def test_unusable_driver_fails_and_no_driver_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_driver() -> bool:
        warnings.warn(
            "The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1
        )
        return False

    monkeypatch.setattr("torch.cuda.is_available", old_driver)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(check_machine, "NVIDIA_DRIVER_FILE", tmp_path / "version")
    assert check_machine.devices(config()).text == "no GPU: training uses the CPU"
    with monkeypatch.context() as on_a_mac:
        on_a_mac.setattr("torch.backends.mps.is_available", lambda: True)
        assert check_machine.devices(config()).text.startswith("Apple GPUs have no float64")
    (tmp_path / "version").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = check_machine.devices(config())
    assert found.level == "FAIL"
    assert "(CUDA_VISIBLE_DEVICES='7'): The NVIDIA driver on your system is too old" in found.text


@pytest.mark.parametrize(("product", "level"), [(1.0, "ok"), (0.5, "FAIL")])
def test_each_gpu_is_asked_for_a_product(
    product: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = torch.ones
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (5 * GB, 8 * GB))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"card {number}")
    monkeypatch.setattr("torch.ones", lambda *shape, device: ones(*shape) * product)
    found = check_machine.devices(config())
    assert found.level == level
    assert level == "FAIL" or found.text == "card 0 (5 of 8 GB free), card 1 (5 of 8 GB free)"


@pytest.mark.parametrize(
    ("quota", "threads", "finding"),
    [
        ("150000 100000", 2, ("ok", "2 threads on 1.5 cores")),
        ("150000 100000", 8, ("warn", "8 threads on 1.5 cores")),
        ("max 100000", 4, ("ok", "4 threads on 4 cores")),
        ("max 100000", 5, ("warn", "5 threads on 4 cores")),
    ],
)
def test_more_threads_than_a_container_may_use(
    quota: str,
    threads: int,
    finding: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(check_machine, "CPU_QUOTA_FILE", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    found = check_machine.threads(config())
    assert (found.level, found.text) == finding
    assert found.level == "ok" or found.remedy.startswith(
        f"OMP_NUM_THREADS={1 if quota[0] == '1' else 4}:"
    )


def test_the_shared_memory_of_a_container_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_machine, "SHARED_MEMORY", tmp_path)
    for size, level in ((64 * 10**6, "warn"), (2 * GB, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, size=size: SimpleNamespace(total=size))
        assert check_machine.shared_memory(config()).level == level
    monkeypatch.setattr(check_machine, "SHARED_MEMORY", tmp_path / "none")
    assert check_machine.shared_memory(config()) == Finding("ok", "this system has no /dev/shm")


# --------------------------------------------------------------------------------------------------
# files


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    words = (f"run.root={tmp_path}/runs", f"data.root={tmp_path}/data")
    assert check_files.runs(config(*words)).text.startswith(f"{tmp_path}/runs (will be created)")
    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert check_files.runs(config(*words))[:2] == (
        "FAIL",
        f"{tmp_path}/runs cannot be written (Read-only file system)",
    )
    assert check_files.data(config(*words)).level == "warn"  # the data can still be read
    assert check_files.cache(config(*words)).text.startswith(f"{tmp_path}/data/cache cannot")
    monkeypatch.setenv("GAN_LAB_CACHE", f"{tmp_path}/elsewhere")
    assert check_files.cache(config(*words))[:2] == (
        "FAIL",
        f"{tmp_path}/elsewhere cannot be written (Read-only file system)",
    )


def test_a_file_where_a_folder_should_be_and_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert check_files.folder(tmp_path / "file").level == "FAIL"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4.9 * GB))
    assert check_files.folder(tmp_path)[:2] == ("warn", f"{tmp_path}, 5 GB free")


def test_samples_that_are_not_what_was_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_files.samples(config()).level == "ok"
    truncated = np.zeros((4999, 784), np.uint8), np.zeros(4999, np.int64)
    monkeypatch.setattr("gan_lab.data.mnist.read_bundled_digits", lambda: truncated)
    assert check_files.samples(config())[:2] == (
        "FAIL",
        "4999 digits, 200 faces: not the shipped data",
    )


def test_inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    found = check_files.inception(config())
    name = "weights-inception-2015-12-05-6726825d.pth"
    assert (found.level, found.remedy.endswith(f"as {tmp_path}/checkpoints/{name}")) == (
        "warn",
        True,
    )
    monkeypatch.setattr("gan_lab.utils.network.is_reachable", lambda url, seconds: True)
    assert check_files.inception(config()).level == "ok"

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(b"half of it")
    assert check_files.inception(config()).level == "FAIL"
    mine = tmp_path / "mine.pth"
    assert check_files.inception(config(f"metrics.inception_weights={mine}")).level == "FAIL"
    mine.write_bytes(b"other weights")
    assert check_files.inception(config(f"metrics.inception_weights={mine}")).level == "warn"
    published = SimpleNamespace(hexdigest=lambda: "6726825d0af5f729")
    monkeypatch.setattr("hashlib.sha256", lambda _: published)
    assert check_files.inception(config())[:2] == (
        "ok",
        f"{tmp_path}/checkpoints/{name}, SHA-256 6726825d...",
    )
    assert check_files.inception(config("metrics.inception_weights=off")).level == "ok"


# --------------------------------------------------------------------------------------------------
# other machines and processes


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_processes.wandb(config()).text == "logging offline (WANDB_MODE=offline)"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert check_processes.wandb(config()).text.startswith("no API key")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.invalid")
    assert check_processes.wandb(config())[:2] == (
        "warn",
        "API key found, but https://wandb.invalid does not respond",
    )
    monkeypatch.setattr(
        "gan_lab.utils.network.is_reachable", lambda url, seconds: url == "https://wandb.invalid"
    )
    assert check_processes.wandb(config()).text == "API key found, https://wandb.invalid responds"


@pytest.mark.parametrize(
    ("environment", "finding"),
    [
        ({}, ("ok", "none")),
        (
            {"RANK": "0", "MASTER_ADDR": "127.0.0.1"},
            ("FAIL", "RANK, MASTER_ADDR without WORLD_SIZE, MASTER_PORT"),
        ),
        (
            {"MASTER_ADDR": "no.such.host.invalid"},
            ("FAIL", "MASTER_ADDR=no.such.host.invalid cannot be resolved"),
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
            ("ok", "RANK=1, WORLD_SIZE=2, MASTER_ADDR=127.0.0.1, MASTER_PORT=29500"),
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}, ("ok", "SLURM job 7, 1 machines, 1 tasks")),
        (
            {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_JOB_NUM_NODES": "2"},
            ("warn", "SLURM job 7, 2 machines, 16 tasks, but this process is not a task"),
        ),
        (
            {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_PROCID": "3"},
            ("ok", "SLURM job 7, 1 machines, 16 tasks"),
        ),
    ],
)
def test_launcher_reports_missing_variables(
    environment: dict[str, str], finding: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert check_processes.launcher(config())[:2] == finding


def test_a_port_that_is_taken_fails_where_it_will_be_listened_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        found = check_processes.port(config())
        assert (found.level, "Address already in use" in found.text) == ("FAIL", True)
        monkeypatch.setenv("GROUP_RANK", "1")  # torchrun's second machine
        assert check_processes.port(config()).level == "ok"
    monkeypatch.delenv("GROUP_RANK")
    number = free_number()
    monkeypatch.setenv("MASTER_PORT", str(number))
    assert check_processes.port(config())[:2] == ("ok", f"can listen, on port {number}")
    for wrong in ("http", "0", "65536"):
        monkeypatch.setenv("MASTER_PORT", wrong)
        assert check_processes.port(config())[:2] == ("FAIL", f"MASTER_PORT={wrong} is not a port")


def free_number() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (
            "[ $6 = 0 ] || { echo trace; echo 'gloo: no route to host'; exit 1; }; exec sleep 60",
            "gloo: no route to host",
        ),
        ("exec sleep 60", "timed out after 0.5 s"),
    ],
)
def test_processes_without_connection_fail_and_none_is_left(
    script: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stand_in))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(check_processes, "ALL_REDUCE_TIMEOUT_S", 0.5 if "timed out" in text else 20)
    found = check_processes.all_reduce(config())
    assert found == (
        "FAIL",
        f"2 processes with gloo: {text}",
        "set GLOO_SOCKET_IFNAME to lo or to the network interface",
    )
    started = [int(line) for line in (tmp_path / "started").read_text().split()]
    assert not any(Path(f"/proc/{number}").exists() for number in started)


def test_a_wrong_sum_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda mine: mine.mul_(3))
    reduce.reduce("gloo", 2, 1, 0)
    with pytest.raises(ValueError, match=re.escape("the sum is 6.0 instead of 3.0")):
        reduce.reduce("gloo", 2, 1, 1)
