"""Lightning's strategy, launcher and environment for the processes of a training."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from gan_lab.config.schema import RunConfig
from gan_lab.distributed import detect
from gan_lab.distributed.detect import Launch
from gan_lab.distributed.lightning_internals import (
    ChildLauncher,
    OpenDDPStrategy,
    UncheckedSLURMEnvironment,
    set_num_threads,
)

STALE = (
    "torchrun restarts on several machines may read what was left by the start before: "
    "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun, on each machine"
)


def options(launched: Launch, run: RunConfig) -> dict[str, Any]:
    """Lightning's arguments that are about processes; ``environment`` is one of its plugins."""
    gpu = torch.cuda.is_available()
    several = launched.world > 1
    named = launched.by == "plain" or "," in str(run.devices)  # which GPUs, and not only how many
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": (run.devices or "1") if named else launched.local,
        "num_nodes": launched.nodes,
        "strategy": Strategy(launched, run.timeout_s) if several else "auto",
        "sync_batchnorm": several and gpu,  # on a CPU it raises
    }


def environment(launched: Launch) -> ClusterEnvironment:
    """Create the cluster environment, which Lightning asks for addresses and ranks."""
    if launched.by == "torchrun":
        return TorchElasticEnvironment()
    return Slurm(auto_requeue=False) if launched.by == "srun" else LightningEnvironment()


class Slurm(UncheckedSLURMEnvironment):
    """SLURM without Lightning's requeue, which saves within a step, and with any option that says the number of tasks."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """``detect_launcher`` has."""


class Strategy(OpenDDPStrategy):
    """Lightning's DDP without torch's wrapper: ``Family.minimize`` averages the gradients itself, in one message.

    A step has several backwards, each for a part of the networks; the wrapper would search for that part each time, and
    send the buffers of all networks.
    """

    def __init__(self, launched: Launch, timeout: float) -> None:
        super().__init__(timeout=timedelta(seconds=timeout))
        self.launched = launched

    def configure_ddp(self) -> None:
        """All begin with the weights and buffers of the first."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            distributed.broadcast(tensor, src=0)

    def create_launcher(self) -> Launcher:
        """The other processes of this machine are started by ``Launcher``."""
        assert self.cluster_environment is not None
        return Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Join the others; after a restart by torchrun, under keys that the start before has not used.

        torchrun's own store outlives its restarts, and torch 2.15 reads from it what the lost processes left.
        """
        shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and self.launched.by == "torchrun"
        if shared and self.launched.nodes > 1 and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
            warnings.warn(STALE, stacklevel=2)  # the machines do not count alike
        elif shared and not distributed.is_initialized() and self.timeout:
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store: Any = TCPStore(host, port, is_master=False, timeout=self.timeout)
            store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
            on_gpu = self.root_device.type != "cpu"
            distributed.init_process_group(
                self.backend, store=store, rank=self.launched.rank, timeout=self.timeout,
                world_size=self.launched.world, device_id=self.root_device if on_gpu else None,
            )  # fmt: skip
            if on_gpu:  # as Lightning does where it joins them
                atexit.register(distributed.destroy_process_group)
        super().setup_distributed()


class Launcher(ChildLauncher):
    """Starts the other processes of this machine, and does not wait for one that has ended."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Call the function in all of them."""
        over = threading.Event()
        if not self.cluster_environment.creates_processes_externally:
            self.start_children()
            first = self.cluster_environment.node_rank() * self.num_processes + 1
            threading.Thread(target=watch, args=(self.procs, first, over), daemon=True).start()
        set_num_threads(self.num_processes)
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
        if failed and not over.wait(2 * detect.ROLL_CALL):
            rank, code = failed[0]
            print(f"error: {_ended(rank, code)}; all others end with it", file=sys.stderr, flush=True)
            for child in children:
                child.kill()
            os._exit(2)


def _ended(rank: int, code: int) -> str:
    if code < 0:
        return f"process {rank} was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"process {rank} has ended with exit code {code}"
