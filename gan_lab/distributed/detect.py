"""Detect the launcher and the number of processes, and explain which of them is lost.

torchrun and srun say by environment variables what they started; without them the lab starts the processes of its
machine itself. How they are joined is in strategy.py.
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
from gan_lab.distributed.lightning_internals import default_store
from gan_lab.utils.errors import UserError, first_line

ROLL_CALL = 5.0  # seconds in which those that are left say so
AGAIN = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
SCRIPT = 4_294_967_290  # from here on SLURM's numbers of steps are its own, such as that of the batch script
OPTIONS = {"torchrun": ("--nproc-per-node", "--nnodes"), "srun": ("--ntasks-per-node", "--nodes")}
BROKEN = ("gloo", "NCCL", "Connection reset", "Connection closed", "Connection refused", "Broken pipe", "TCPStore")


class LostError(ConnectionError):
    """The processes of a training have lost one another."""


@dataclass(frozen=True)
class Launch:
    """The processes of a training, as this one of them sees them."""

    by: Literal["torchrun", "srun", "plain"] = "plain"
    local: int = 1  # processes on this machine, and on each other one
    nodes: int = 1
    rank: int = 0  # of this process among all
    again: bool = False  # after another that began the run: what was to be overwritten is overwritten

    @property
    def world(self) -> int:
        """The number of all processes."""
        return self.local * self.nodes


SINGLE_PROCESS = Launch()


def detect_launcher(run: RunConfig) -> Launch:
    """Detect the launcher (torchrun, srun or none) and check it against run.devices and run.num_nodes.

    Raises UserError, naming both numbers, if it does not.
    """
    env = os.environ
    again = any(env.get(name, "0") != "0" for name in AGAIN)
    if "TORCHELASTIC_RUN_ID" in env:
        world, local = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        detected = Launch("torchrun", local, world // local, int(env["RANK"]), again)
    elif int(env.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in env and not _at_a_prompt():
        if int(env.get("SLURM_STEP_ID", SCRIPT)) >= SCRIPT:
            raise UserError(f"the job has {env['SLURM_NTASKS']} tasks, but srun has not started this process: "
                             "srun gan-lab train ... in the batch script starts all of them (make slurm writes one)")  # fmt: skip
        world, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", env.get("SLURM_JOB_NUM_NODES", 1)))
        detected = Launch("srun", world // nodes, nodes, int(env["SLURM_PROCID"]), again)
    else:
        local, nodes = processes(run.devices or "1"), run.num_nodes or 1
        number = int(env.get("LOCAL_RANK", 0))
        rank = int(env.get("NODE_RANK", env.get("GROUP_RANK", 0))) * local + number
        return Launch("plain", local, nodes, rank, again or number > 0)
    if detected.world != world:
        raise UserError(
            f"{detected.by} started {world} processes on {detected.nodes} machines: as many on each are needed"
        )
    wanted = detected.local if run.devices in (None, "auto", "-1") else processes(str(run.devices))
    options = OPTIONS[detected.by]
    if wanted != detected.local:
        raise UserError(f"run.devices={run.devices}, but {detected.by} started {detected.local} processes on each machine: "
                         f"leave run.devices out, or start with {options[0]}={wanted}")  # fmt: skip
    if run.num_nodes not in (0, detected.nodes):
        raise UserError(f"run.num_nodes={run.num_nodes}, but {detected.by} started processes on {detected.nodes} machines: "
                         f"leave run.num_nodes out, or start with {options[1]}={run.num_nodes}")  # fmt: skip
    return detected


def _at_a_prompt() -> bool:
    """True if this is an interactive shell of SLURM, which has not started the processes."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def processes(devices: str) -> int:
    """Count the processes of this machine from a number, a list such as '0,1', or auto."""
    if devices.strip() in ("auto", "-1"):
        return max(1, torch.cuda.device_count())
    parts = [part.strip() for part in devices.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise UserError(f"run.devices={devices} must be a number of processes, a list of GPUs such as 0,1, or auto; the "
                         "CPU is taken where there is no GPU")  # fmt: skip
    return len(parts) if "," in devices else int(parts[0])


def barrier_if_distributed() -> None:
    """Wait for all processes, if they can still be waited for."""
    if distributed.is_available() and distributed.is_initialized():
        try:
            distributed.barrier()
        except RuntimeError:
            return


def is_broken(error: BaseException) -> bool:
    """True if a process raises this error when its connection to the others has broken or timed out."""
    raised = isinstance(error, distributed.DistError) if distributed.is_available() else False
    return raised or (isinstance(error, RuntimeError) and any(word in str(error) for word in BROKEN))


def explain_lost_ranks(launched: Launch, error: BaseException, timeout: float) -> BaseException:
    """Build the error to raise in place of one that ``is_broken``: it names the lost ranks, in one process alone."""
    reason = re.sub(r"^\[[^]]*\] ", "", first_line(error)).partition(". ")[0][:160]
    if not distributed.is_initialized():
        return LostError(
            f"not all of {launched.world} processes have come within run.timeout_s={timeout:g} seconds ({reason}): were "
            f"{launched.nodes} machines with {launched.local} processes each started, and can they reach the first?"
        )
    speaks, absent = roll_call(launched)
    if not speaks:
        return SystemExit(2)
    if not absent:
        return LostError(f"{launched.world} processes run, but cannot reach one another ({reason})")
    named = ", ".join(map(str, absent))
    of_all = f"process{'es' if len(absent) > 1 else ''} {named} of {launched.world} (counted from 0)"
    return LostError(
        f"lost {of_all}: killed, ended by an error of its own, stopped, or its machine is gone ({reason}). All others "
        "end; the checkpoint before is whole, the same command continues"
    )


def roll_call(launched: Launch) -> tuple[bool, list[int]]:
    """Ask who is left: True if this process speaks for the rest, and the ranks that are missing."""
    own_rank, rest = launched.rank, range(launched.world)
    try:
        store = PrefixStore("roll call", default_store())
        store.set_timeout(timedelta(seconds=ROLL_CALL))
        store.set(str(own_rank), "here")
        end = time.monotonic() + ROLL_CALL
        while (absent := [n for n in rest if not store.check([str(n)])]) and time.monotonic() < end:
            time.sleep(0.05)
        present = launched.world - len(absent)
        store.add("counted", 1)
        while own_rank == 0 and store.add("counted", 0) < present and time.monotonic() < end + ROLL_CALL:
            time.sleep(0.05)  # the store may be in this process
        return own_rank == min(n for n in rest if n not in absent), absent
    except RuntimeError:  # the store went with the process that kept it
        return own_rank == 1 or own_rank % launched.local == 0, [0]


def check_batch_size(config: Config, launched: Launch) -> None:
    """Raise UserError if the global batch cannot be shared equally by the processes and their parts."""
    parts = launched.world * config.run.micro_batches * (2 if config.data.labels_per_class else 1)
    if config.data.batch_size % parts:
        halves = "two halves (with and without labels) of the " if config.data.labels_per_class else ""
        shares = f"{config.run.micro_batches} parts (run.micro_batches) of the " if config.run.micro_batches > 1 else ""
        raise UserError(
            f"data.batch_size={config.data.batch_size} is the global batch: it must be divisible by the {halves}{shares}"
            f"{launched.world} processes ({launched.local} on each of {launched.nodes} machines)"
        )
