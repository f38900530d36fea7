"""Checks of W&B, the launcher and distributed communication."""

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
from gan_lab.doctor.finding import HOST_TIMEOUT_S, Finding

# includes the imports of the processes
ALL_REDUCE_TIMEOUT_S = 30
# a launcher sets all of them
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def wandb(config: Config) -> Finding:
    """Check whether W&B will log online."""
    from gan_lab.training.callbacks import wandb_logger
    from gan_lab.utils.network import is_reachable

    host = wandb_logger.host()
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return Finding("ok", f"logging offline (WANDB_MODE={mode})")
    if not wandb_logger.key_is_present():
        return Finding("ok", "no API key: logging offline; run `wandb login` to log online")
    if not is_reachable(host, HOST_TIMEOUT_S):
        return Finding(
            "warn",
            f"API key found, but {host} does not respond",
            "logging offline; upload later with `wandb sync`",
        )
    return Finding("ok", f"API key found, {host} responds")


def launcher(config: Config) -> Finding:
    """Check the environment variables of torchrun or SLURM."""
    launcher_variables = {
        name: os.environ[name] for name in LAUNCHER_VARIABLES if os.environ.get(name)
    }
    if "MASTER_ADDR" in launcher_variables and not _has_address(launcher_variables["MASTER_ADDR"]):
        return Finding(
            "FAIL",
            f"MASTER_ADDR={launcher_variables['MASTER_ADDR']} cannot be resolved",
            "use the IP address of the first machine",
        )
    if {"RANK", "WORLD_SIZE"} & launcher_variables.keys() and len(launcher_variables) < len(
        LAUNCHER_VARIABLES
    ):
        absent = ", ".join(name for name in LAUNCHER_VARIABLES if name not in launcher_variables)
        return Finding(
            "FAIL",
            f"{', '.join(launcher_variables)} without {absent}",
            "unset them, or use torchrun, which sets all of them",
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
                f"{text}, but this process is not a task",
                "start the training with srun: see make slurm",
            )
        return Finding("ok", text)
    return Finding(
        "ok",
        ", ".join(f"{name}={value}" for name, value in launcher_variables.items()) or "none",
    )


def _has_address(host: str) -> bool:
    results: list[Any] = []

    def look_up() -> None:
        with contextlib.suppress(OSError):
            results.extend(socket.getaddrinfo(host, None))

    # name resolution has no timeout of its own
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(HOST_TIMEOUT_S)
    return bool(results)


def port(config: Config) -> Finding:
    """Check that this process can listen, on MASTER_PORT if this is the first machine."""
    number = os.environ.get("MASTER_PORT", "")
    if number and not (number.isdigit() and 0 < int(number) < 65536):
        return Finding(
            "FAIL",
            f"MASTER_PORT={number} is not a port",
            "choose 1024 to 65535 (or 1 to 1023 as root)",
        )
    is_first = all(
        os.environ.get(name, "0") == "0" for name in ("GROUP_RANK", "NODE_RANK", "SLURM_NODEID")
    )
    requested_port = int(number) if number and is_first else 0
    with socket.socket() as listener:
        # as torch's TCPStore does
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", requested_port))
            listener.listen()
        except OSError as error:
            return Finding(
                "FAIL",
                f"cannot listen on port {requested_port or '(any)'}: {error.strerror}",
                "choose another MASTER_PORT",
            )
        return Finding("ok", f"can listen, on port {listener.getsockname()[1]}")


def all_reduce(config: Config) -> Finding:
    """Check an all-reduce: NCCL over several GPUs, else gloo over two processes."""
    import torch

    gpus = torch.cuda.device_count()
    world, backend = (gpus, "nccl") if gpus > 1 else (2, "gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-m", "gan_lab.doctor.reduce", backend, str(world), str(number)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")
    }
    workers = [
        subprocess.Popen(
            [*command, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(world)
    ]
    end = time.monotonic() + ALL_REDUCE_TIMEOUT_S
    try:
        while any(process.poll() is None for process in workers) and time.monotonic() < end:
            # the others would wait for a failed process until their timeout
            if any(process.poll() for process in workers):
                break
            time.sleep(0.05)
        codes = [process.poll() for process in workers]
    finally:
        for process in workers:
            process.kill()
    outputs = [process.communicate()[0] for process in workers]
    if codes == [0] * world:
        return Finding("ok", f"{world} processes with {backend}")
    lines = (
        next((text for text, code in zip(outputs, codes, strict=True) if code), "")
        .strip()
        .splitlines()
    )
    reason = lines[-1] if lines else f"timed out after {ALL_REDUCE_TIMEOUT_S} s"
    variable = "NCCL_SOCKET_IFNAME" if backend == "nccl" else "GLOO_SOCKET_IFNAME"
    return Finding(
        "FAIL",
        f"{world} processes with {backend}: {reason}",
        f"set {variable} to lo or to the network interface",
    )
