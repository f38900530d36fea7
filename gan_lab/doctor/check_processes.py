"""Checks of W&B, the launcher, and communication between processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import SECONDS, Finding

REDUCE_SECONDS = 30  # for the all-reduce, including the imports of its processes
LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # all of them, or none


def wandb(config: Config) -> Finding:
    """Check whether runs will be recorded online."""
    from gan_lab.training.callbacks import wandb_logger
    from gan_lab.utils.network import is_reachable

    host = wandb_logger.host()
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return Finding("ok", f"runs are recorded offline (WANDB_MODE={mode})")
    if not wandb_logger.key_is_present():
        return Finding("ok", "no key, runs are recorded offline; `wandb login` changes that")
    if not is_reachable(host, SECONDS):
        return Finding(
            "warn",
            f"there is a key, but {host} does not answer",
            "runs are recorded offline: `wandb sync`",
        )
    return Finding("ok", f"there is a key, and {host} answers")


def launcher(config: Config) -> Finding:
    """Check the variables of torchrun or SLURM, if one of them started this process."""
    launcher_variables = {name: os.environ[name] for name in LAUNCHERS if os.environ.get(name)}
    if "MASTER_ADDR" in launcher_variables and not _has_address(launcher_variables["MASTER_ADDR"]):
        return Finding(
            "FAIL",
            f"MASTER_ADDR={launcher_variables['MASTER_ADDR']} has no address here",
            "name the first machine by IP",
        )
    if {"RANK", "WORLD_SIZE"} & launcher_variables.keys() and len(launcher_variables) < len(
        LAUNCHERS
    ):
        absent = ", ".join(name for name in LAUNCHERS if name not in launcher_variables)
        return Finding(
            "FAIL",
            f"{', '.join(launcher_variables)} without {absent}",
            "unset them, or start by torchrun, which sets all",
        )
    if os.environ.get("SLURM_JOB_ID"):
        tasks, nodes = (
            os.environ.get("SLURM_NTASKS", "1"),
            os.environ.get("SLURM_JOB_NUM_NODES", "1"),
        )
        text = f"SLURM job {os.environ['SLURM_JOB_ID']}, {nodes} machines, {tasks} tasks"
        if int(tasks) > 1 and "SLURM_PROCID" not in os.environ:
            return Finding(
                "warn",
                f"{text}, and this is not one of them",
                "start the training by srun: see make slurm",
            )
        return Finding("ok", text)
    return Finding(
        "ok",
        ", ".join(f"{name}={value}" for name, value in launcher_variables.items())
        or "none, a direct start",
    )


def _has_address(host: str) -> bool:
    results: list[Any] = []

    def look_up() -> None:
        with contextlib.suppress(OSError):
            results.extend(socket.getaddrinfo(host, None))

    thread = threading.Thread(
        target=look_up, daemon=True
    )  # name resolution has no time-out of its own
    thread.start()
    thread.join(SECONDS)
    return bool(results)


def port(config: Config) -> Finding:
    """Check that this process can listen: on MASTER_PORT if this is the first machine, else on any port."""
    number = os.environ.get("MASTER_PORT", "")
    if number and not (number.isdigit() and 0 < int(number) < 65536):
        return Finding(
            "FAIL",
            f"MASTER_PORT={number} is not a port",
            "1 to 65535; above 1023 unless you are root",
        )
    is_first = all(
        os.environ.get(name, "0") == "0" for name in ("GROUP_RANK", "NODE_RANK", "SLURM_NODEID")
    )
    requested_port = int(number) if number and is_first else 0
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's store does
        try:
            listener.bind(("", requested_port))
            listener.listen()
        except OSError as error:
            return Finding(
                "FAIL",
                f"cannot listen on port {requested_port or '(any)'}: {error.strerror}",
                "another MASTER_PORT",
            )
        return Finding("ok", f"can listen, on port {listener.getsockname()[1]}")


def all_reduce(config: Config) -> Finding:
    """Check a sum over processes: over all GPUs by NCCL if there are several, else over two processes by gloo."""
    import torch

    gpus = torch.cuda.device_count()
    world, backend = (gpus, "nccl") if gpus > 1 else (2, "gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    words = [sys.executable, "-m", "gan_lab.doctor.reduce", backend, str(world), str(number)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")
    }
    workers = [subprocess.Popen([*words, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env=environment) for rank in range(world)]  # fmt: skip
    end = time.monotonic() + REDUCE_SECONDS
    try:
        while any(process.poll() is None for process in workers) and time.monotonic() < end:
            if any(process.poll() for process in workers):  # the others would wait for it
                break
            time.sleep(0.05)
        codes = [process.poll() for process in workers]
    finally:
        for process in workers:
            process.kill()
    outputs = [process.communicate()[0] for process in workers]
    if codes == [0] * world:
        return Finding("ok", f"{world} processes agree on a sum, by {backend}")
    lines = (
        next((text for text, code in zip(outputs, codes, strict=True) if code), "")
        .strip()
        .splitlines()
    )
    reason = lines[-1] if lines else f"no answer in {REDUCE_SECONDS} seconds"
    variable = "NCCL_SOCKET_IFNAME" if backend == "nccl" else "GLOO_SOCKET_IFNAME"
    return Finding(
        "FAIL",
        f"{world} processes by {backend}: {reason}",
        f"{variable}=lo, or the name of the network card",
    )
