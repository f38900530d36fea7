"""Who started this process, how many there are of it, how they are joined, and what is said when one of them is lost.

torchrun and srun say by environment variables what they started; without them the lab starts the processes of its
machine itself, by Lightning's launcher. The border to Lightning is here: it is told everything and finds out nothing.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _get_default_store

from gan_lab.schema import RunConfig

ROLL_CALL = 5.0  # seconds in which those that are left say so
AGAIN = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
OPTIONS = {"torchrun": ("--nproc-per-node", "--nnodes"), "srun": ("--ntasks-per-node", "--nodes")}
STALE = (
    "torchrun restarts on several machines may read what was left by the start before: "
    "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun, on each machine"
)
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


ALONE = Launch()


def of(run: RunConfig) -> Launch:
    """What the launcher started, or what the lab shall start; and it agrees with ``run.devices`` and ``run.num_nodes``.

    Raises ValueError, naming both numbers, if it does not.
    """
    env = os.environ
    again = any(env.get(name, "0") != "0" for name in AGAIN)
    if "TORCHELASTIC_RUN_ID" in env:
        world, local = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        found = Launch("torchrun", local, world // local, int(env["RANK"]), again)
    elif int(env.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in env and not _at_a_prompt():
        world, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", env.get("SLURM_JOB_NUM_NODES", 1)))
        found = Launch("srun", world // nodes, nodes, int(env["SLURM_PROCID"]), again)
    else:
        local, nodes = processes(run.devices or "1"), run.num_nodes or 1
        number = int(env.get("LOCAL_RANK", 0))
        rank = int(env.get("NODE_RANK", env.get("GROUP_RANK", 0))) * local + number
        return Launch("plain", local, nodes, rank, again or number > 0)
    if found.world != world:
        raise ValueError(f"{found.by} started {world} processes on {found.nodes} machines: as many on each are needed")
    asked = found.local if run.devices in (None, "auto", "-1") else processes(str(run.devices))
    options = OPTIONS[found.by]
    if asked != found.local:
        raise ValueError(f"run.devices={run.devices}, but {found.by} started {found.local} processes on each machine: "
                         f"leave run.devices out, or start with {options[0]}={asked}")  # fmt: skip
    if run.num_nodes not in (0, found.nodes):
        raise ValueError(f"run.num_nodes={run.num_nodes}, but {found.by} started processes on {found.nodes} machines: "
                         f"leave run.num_nodes out, or start with {options[1]}={run.num_nodes}")  # fmt: skip
    return found


def number(launched: Launch) -> None:
    """Tell Lightning this process's number, which it would only know later."""
    rank_zero_only.rank = launched.rank  # type: ignore[attr-defined]


def _at_a_prompt() -> bool:
    """Whether this is SLURM's shell, whose processes it has not started."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def processes(devices: str) -> int:
    """How many processes on this machine: of a number, a list such as '0,1', or auto."""
    if devices.strip() in ("auto", "-1"):
        return max(1, torch.cuda.device_count())
    return int(devices) if devices.strip().isdigit() else len([part for part in devices.split(",") if part.strip()])


def options(launched: Launch, run: RunConfig) -> dict[str, Any]:
    """Lightning's arguments that are about processes; ``environment`` is one of its plugins."""
    gpu = torch.cuda.is_available()
    several = launched.world > 1
    named = launched.by == "plain" or "," in str(run.devices)  # which GPUs, and not only how many
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": (run.devices or "1") if named else launched.local,
        "num_nodes": launched.nodes,
        "strategy": Strategy(launched, run.timeout) if several else "auto",
        "sync_batchnorm": several and gpu,  # on a CPU it raises
    }


def environment(launched: Launch) -> ClusterEnvironment:
    """What Lightning asks for addresses and numbers."""
    if launched.by == "torchrun":
        return TorchElasticEnvironment()
    return Slurm(auto_requeue=False) if launched.by == "srun" else LightningEnvironment()


class Slurm(SLURMEnvironment):
    """SLURM without Lightning's requeue, which saves within a step, and with any option that says the number of tasks."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """``of`` has."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """``of`` has."""


class Strategy(DDPStrategy):
    """DDP that looks which weights a step has used: each uses a part of the networks."""

    def __init__(self, launched: Launch, timeout: float) -> None:
        super().__init__(find_unused_parameters=True, timeout=timedelta(seconds=timeout))
        self.launched = launched

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Join the others; after a restart by torchrun, under keys that the start before has not used.

        torchrun's own store outlives its restarts, and torch 2.15 reads from it what the lost processes left.
        """
        shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and self.launched.by == "torchrun"
        if shared and self.launched.nodes > 1 and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
            warnings.warn(STALE, stacklevel=2)  # the machines do not count alike
        elif shared and not distributed.is_initialized() and self._timeout:
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store: Any = TCPStore(host, port, is_master=False, timeout=self._timeout)
            store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
            on_gpu = self.root_device.type != "cpu"
            distributed.init_process_group(
                self._get_process_group_backend(), store=store, rank=self.launched.rank, timeout=self._timeout,
                world_size=self.launched.world, device_id=self.root_device if on_gpu else None,
            )  # fmt: skip
            if on_gpu:  # as Lightning does where it joins them
                atexit.register(distributed.destroy_process_group)
        super().setup_distributed()


class Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and does not wait for one that has ended."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Call the function in all of them."""
        over = threading.Event()
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            first = self.cluster_environment.node_rank() * self.num_processes + 1
            threading.Thread(target=watch, args=(self.procs, first, over), daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        finally:
            over.set()


def watch(children: list[subprocess.Popen[bytes]], first: int, over: threading.Event) -> None:
    """End all processes of this machine when one that was started has ended in failure, and this one waits for it.

    It waits for as long as one needs to find out, and to say it, by itself.
    """
    while not over.wait(0.5):
        failed = [(first + i, child.returncode) for i, child in enumerate(children) if child.poll()]
        if failed and not over.wait(2 * ROLL_CALL):
            rank, code = failed[0]
            print(f"error: {_ended(rank, code)}; all others end with it", file=sys.stderr, flush=True)
            for child in children:
                child.kill()
            os._exit(2)


def _ended(rank: int, code: int) -> str:
    if code < 0:
        return f"process {rank} was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"process {rank} has ended with exit code {code}"


def together() -> None:
    """Wait for all processes, if they can still be waited for."""
    if distributed.is_available() and distributed.is_initialized():
        try:
            distributed.barrier()
        except RuntimeError:
            return


def is_broken(error: BaseException) -> bool:
    """Whether this is what a process raises whose connection to the others has broken, or timed out."""
    raised = isinstance(error, distributed.DistError) if distributed.is_available() else False
    return raised or (isinstance(error, RuntimeError) and any(word in str(error) for word in BROKEN))


def lost(launched: Launch, error: BaseException, timeout: float) -> BaseException:
    """What is to be raised in place of an error that ``is_broken``: it names who is lost, and one process alone says it."""
    reason = re.sub(r"^\[[^]]*\] ", "", str(error)).partition(". ")[0].splitlines()[0][:160]
    if not distributed.is_initialized():
        return LostError(
            f"not all of {launched.world} processes have come within run.timeout={timeout:g} seconds ({reason}): were "
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
    """Whether this process speaks for those that are left, and the numbers of those that are not."""
    mine, rest = launched.rank, range(launched.world)
    try:
        store = PrefixStore("roll call", _get_default_store())
        store.set_timeout(timedelta(seconds=ROLL_CALL))
        store.set(str(mine), "here")
        end = time.monotonic() + ROLL_CALL
        while (absent := [n for n in rest if not store.check([str(n)])]) and time.monotonic() < end:
            time.sleep(0.05)
        present = launched.world - len(absent)
        store.add("counted", 1)
        while mine == 0 and store.add("counted", 0) < present and time.monotonic() < end + ROLL_CALL:
            time.sleep(0.05)  # the store may be in this process
        return mine == min(n for n in rest if n not in absent), absent
    except RuntimeError:  # the store went with the process that kept it
        return mine == 1 or mine % launched.local == 0, [0]
