"""Detect the launcher and the number of processes, and name the ranks that are lost.

torchrun and srun set environment variables in the processes that they start. Without them the lab
starts the processes of its machine itself. ``ddp_strategy.py`` joins them.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from torch import distributed
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from gan_lab.config.schema import Config, RunConfig
from gan_lab.distributed.gradients import is_distributed
from gan_lab.distributed.lightning_internals import default_store
from gan_lab.utils.errors import UserError, first_line

# For the remaining ranks to answer the roll call.
ROLL_CALL_TIMEOUT_S = 5.0
ROLL_CALL_POLL_INTERVAL_S = 0.05
MAX_REASON_CHARACTERS = 160
RESTART_COUNTERS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
# SLURM numbers its own steps from here on, such as the batch script.
FIRST_RESERVED_SLURM_STEP = 4_294_967_290
# The options of a launcher for the processes of each machine, and for the machines.
LAUNCHER_OPTIONS = {
    "torchrun": ("--nproc-per-node", "--nnodes"),
    "srun": ("--ntasks-per-node", "--nodes"),
}
CONNECTION_ERRORS = (
    "gloo",
    "NCCL",
    "Connection reset",
    "Connection closed",
    "Connection refused",
    "Broken pipe",
    "TCPStore",
)


class LostError(ConnectionError):
    """The ranks of a training have lost one another."""


@dataclass(frozen=True)
class Launch:
    """The processes of a training, as seen by this one."""

    launcher: Literal["torchrun", "srun", "plain"] = "plain"
    # Processes of each machine.
    local_world_size: int = 1
    num_nodes: int = 1
    rank: int = 0
    # True if another process has begun this run. It has already applied run.overwrite.
    is_restart: bool = False

    @property
    def world_size(self) -> int:
        """The number of all processes."""
        return self.local_world_size * self.num_nodes


SINGLE_PROCESS = Launch()


def detect_launcher(run: RunConfig) -> Launch:
    """Detect the launcher (torchrun, srun or none).

    Raises:
        UserError: The launcher contradicts run.devices or run.num_nodes. The message names both
        numbers.
    """
    env = os.environ
    is_restart = any(env.get(name, "0") != "0" for name in RESTART_COUNTERS)
    if "TORCHELASTIC_RUN_ID" in env:
        world_size, local = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        detected = Launch("torchrun", local, world_size // local, int(env["RANK"]), is_restart)
    elif (
        int(env.get("SLURM_NTASKS", 1)) > 1
        and "SLURM_PROCID" in env
        and not _is_interactive_slurm()
    ):
        if int(env.get("SLURM_STEP_ID", FIRST_RESERVED_SLURM_STEP)) >= FIRST_RESERVED_SLURM_STEP:
            raise UserError(
                f"the job has {env['SLURM_NTASKS']} tasks, but srun did not start this process. "
                "Use srun gan-lab train ... in the batch script (make slurm writes one)"
            )
        world_size = int(env["SLURM_NTASKS"])
        num_nodes = int(env.get("SLURM_NNODES", env.get("SLURM_JOB_NUM_NODES", 1)))
        detected = Launch(
            "srun", world_size // num_nodes, num_nodes, int(env["SLURM_PROCID"]), is_restart
        )
    else:
        local, num_nodes = count_local_processes(run.devices or "1"), run.num_nodes or 1
        local_rank = int(env.get("LOCAL_RANK", 0))
        rank = int(env.get("NODE_RANK", env.get("GROUP_RANK", 0))) * local + local_rank
        # Local rank 0 starts the others, after it has begun the run.
        return Launch("plain", local, num_nodes, rank, is_restart or local_rank > 0)
    _check_launch(detected, world_size, run)
    return detected


def _check_launch(detected: Launch, world_size: int, run: RunConfig) -> None:
    launcher, local, num_nodes = detected.launcher, detected.local_world_size, detected.num_nodes
    if detected.world_size != world_size:
        raise UserError(
            f"{launcher} started {world_size} processes on {num_nodes} machines. "
            "Start the same number on each"
        )
    per_machine_option, machines_option = LAUNCHER_OPTIONS[launcher]
    wanted = (
        local if run.devices in (None, "auto", "-1") else count_local_processes(str(run.devices))
    )
    if wanted != local:
        raise UserError(
            f"run.devices={run.devices}, but {launcher} started {local} processes on each machine. "
            f"Leave run.devices out, or start with {per_machine_option}={wanted}"
        )
    if run.num_nodes not in (0, num_nodes):
        raise UserError(
            f"run.num_nodes={run.num_nodes}, but {launcher} started processes on "
            f"{num_nodes} machines. "
            f"Leave run.num_nodes out, or start with {machines_option}={run.num_nodes}"
        )


def _is_interactive_slurm() -> bool:
    """True in an interactive SLURM shell, where srun has not started the processes."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def count_local_processes(devices: str) -> int:
    """Count the processes of this machine from a number, a list of GPUs such as '0,1', or auto."""
    if devices.strip() in ("auto", "-1"):
        return max(1, torch.cuda.device_count())
    parts = [part.strip() for part in devices.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise UserError(
            f"run.devices={devices} is not a number of processes. "
            "Write a number, a list of GPUs such as 0,1, or auto; "
            "without a GPU the processes use the CPU"
        )
    return len(parts) if "," in devices else int(parts[0])


def barrier_if_distributed() -> None:
    """Wait for all ranks, unless the connection to them is lost."""
    if is_distributed():
        try:
            distributed.barrier()
        except RuntimeError:
            return


def is_connection_error(error: BaseException) -> bool:
    """True if the error means that the connection to the other ranks has broken or timed out."""
    if distributed.is_available() and isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CONNECTION_ERRORS)


def explain_lost_ranks(launched: Launch, error: BaseException, timeout_s: float) -> BaseException:
    """Convert a connection error to one that names the lost ranks, on one rank only."""
    # Without the source location that torch puts in front, and without its advice.
    reason = re.sub(r"^\[[^]]*\] ", "", first_line(error)).partition(". ")[0][
        :MAX_REASON_CHARACTERS
    ]
    if not distributed.is_initialized():
        return LostError(
            f"timed out after {timeout_s:g} s (run.timeout_s) waiting for "
            f"{launched.world_size} ranks: {reason}. "
            f"Check that {launched.num_nodes} machines started {launched.local_world_size} "
            "processes each and can reach the first machine"
        )
    is_speaker, absent = call_roll(launched)
    if not is_speaker:
        return SystemExit(2)
    if not absent:
        return LostError(
            f"all {launched.world_size} ranks run, but cannot reach one another: {reason}"
        )
    ranks = f"rank{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"
    return LostError(
        f"lost {ranks} of {launched.world_size}, counted from 0: {reason}. "
        "A lost rank was killed, failed, was stopped, or its machine is gone. "
        "All other ranks end; the same command resumes from the last checkpoint"
    )


def call_roll(launched: Launch) -> tuple[bool, list[int]]:
    """Find the ranks that are still there through the key-value store of the process group.

    Returns:
        True if this rank speaks for the remaining ones, and the ranks that are missing.
    """
    own_rank = launched.rank
    ranks = range(launched.world_size)
    try:
        store = PrefixStore("roll call", default_store())
        store.set_timeout(timedelta(seconds=ROLL_CALL_TIMEOUT_S))
        store.set(str(own_rank), "here")
        deadline = time.monotonic() + ROLL_CALL_TIMEOUT_S
        absent = _find_absent_ranks(store, ranks)
        while absent and time.monotonic() < deadline:
            time.sleep(ROLL_CALL_POLL_INTERVAL_S)
            absent = _find_absent_ranks(store, ranks)
        present = len(ranks) - len(absent)
        store.add("counted", 1)
        # The store may live in rank 0, which therefore ends after the others have counted.
        deadline += ROLL_CALL_TIMEOUT_S
        while own_rank == 0 and store.add("counted", 0) < present and time.monotonic() < deadline:
            time.sleep(ROLL_CALL_POLL_INTERVAL_S)
        return own_rank == min(set(ranks) - set(absent)), absent
    except RuntimeError:
        # The store has ended with rank 0, which kept it. One rank of each machine speaks.
        return own_rank == 1 or own_rank % launched.local_world_size == 0, [0]


def _find_absent_ranks(store: PrefixStore, ranks: range) -> list[int]:
    return [rank for rank in ranks if not store.check([str(rank)])]


def check_batch_size(config: Config, launched: Launch) -> None:
    """Raise UserError if ranks, micro-batches and packs cannot share the global batch equally."""
    micro_batches = config.run.micro_batches
    shares = launched.world_size * micro_batches * (2 if config.data.labels_per_class else 1)
    if config.data.batch_size % shares:
        halves = (
            "two halves (with and without labels) of the " if config.data.labels_per_class else ""
        )
        parts = (
            f"{micro_batches} micro-batches (run.micro_batches) of the "
            if micro_batches > 1
            else ""
        )
        raise UserError(
            f"data.batch_size={config.data.batch_size} is the global batch size. "
            "It must be divisible by the "
            f"{halves}{parts}{launched.world_size} ranks ({launched.local_world_size} on each of "
            f"{launched.num_nodes} machines)"
        )
    pack, images = getattr(config.model, "pack", 1), config.data.batch_size // shares
    if images % pack:
        raise UserError(
            f"model.pack={pack} does not divide a batch of {images} images per process and "
            "micro-batch. Choose another model.pack or data.batch_size"
        )
