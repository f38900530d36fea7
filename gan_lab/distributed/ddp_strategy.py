"""Lightning's strategy, launcher and cluster environment for multi-process training.

Overrides private methods of Lightning: see ``lightning_internals.py``.
"""

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
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from gan_lab.config.schema import RunConfig
from gan_lab.distributed import detect
from gan_lab.distributed.detect import Launch

CHILD_POLL_INTERVAL_S = 0.5
STALE_STORE_WARNING = (
    "torchrun restarts on several machines may read stale keys of the previous start: "
    "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun on each machine"
)


def trainer_options(launched: Launch, run: RunConfig) -> dict[str, Any]:
    """Return the Trainer's arguments about processes, except the cluster environment."""
    has_gpu = torch.cuda.is_available()
    is_parallel = launched.world_size > 1
    # A list of devices says which GPUs, not only how many.
    use_config = launched.launcher == "plain" or "," in str(run.devices)
    return {
        "accelerator": "gpu" if has_gpu else "cpu",
        "devices": (run.devices or "1") if use_config else launched.local_world_size,
        "num_nodes": launched.num_nodes,
        "strategy": ManualDDPStrategy(launched, run.timeout_s) if is_parallel else "auto",
        # SyncBatchNorm raises on a CPU.
        "sync_batchnorm": is_parallel and has_gpu,
    }


def create_environment(launched: Launch) -> ClusterEnvironment:
    """Create the cluster environment, from which Lightning reads addresses and ranks."""
    if launched.launcher == "torchrun":
        return TorchElasticEnvironment()
    # Lightning's requeue would save within an iteration.
    return (
        RelaxedSLURMEnvironment(auto_requeue=False)
        if launched.launcher == "srun"
        else LightningEnvironment()
    )


class RelaxedSLURMEnvironment(SLURMEnvironment):
    """SLURM's environment without Lightning's checks of the number of tasks.

    They reject valid options of srun, and ``detect_launcher`` has checked the numbers already.
    """

    @staticmethod
    def _validate_srun_variables() -> None:
        """Accept all variables of srun."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Accept all settings."""


class ManualDDPStrategy(DDPStrategy):
    """Lightning's DDP without torch's wrapper: ``Family.minimize`` averages the gradients itself.

    An iteration has several backward passes, each through some of the networks. The wrapper would
    search for the used parameters each time, and send the buffers of all networks. CPUs and GPUs
    use the same code.
    """

    def __init__(self, launched: Launch, timeout_s: float) -> None:
        super().__init__(timeout=timedelta(seconds=timeout_s))
        self.launched = launched
        self._to_share: list[Any] | None = None

    def configure_ddp(self) -> None:
        """Broadcast the weights and buffers of rank 0."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            distributed.broadcast(tensor, src=0)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = WatchingLauncher(
            self.cluster_environment, self.num_processes, self.num_nodes
        )

    def share_from_first_rank(self, value: Any) -> Any:
        """Return the value that rank 0 passes, on all ranks. Call it once, before ``fit``.

        Rank 0 returns at once and sends the value when ``fit`` joins the ranks, because ``fit``
        starts them. The others start the processes of their machine, join and wait for it here.

        Args:
            value: The value on rank 0; ignored on other ranks.
        """
        self._to_share = [value]
        if self.launched.rank == 0:
            return value
        assert self._launcher is not None
        shared = self._to_share
        self._launcher.launch(self.setup_environment)
        return shared[0]

    def setup_distributed(self) -> None:
        """Join the process group; after a restart by torchrun, with new keys in the store.

        torchrun's own store outlives its restarts, and torch 2.15 reads stale keys of the lost
        processes from it.
        """
        uses_agent_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if uses_agent_store and self.launched.launcher == "torchrun":
            if self.launched.num_nodes == 1:
                self._join_under_new_keys()
            elif os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
                # The machines may count different numbers of restarts, so they cannot agree on the
                # keys.
                warnings.warn(STALE_STORE_WARNING, stacklevel=2)
        super().setup_distributed()
        atexit.register(leave_process_group)
        if self._to_share is not None:
            distributed.broadcast_object_list(self._to_share, src=0)
            self._to_share = None

    def _join_under_new_keys(self) -> None:
        if distributed.is_initialized() or self._timeout is None:
            return
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store: Any = TCPStore(host, port, is_master=False, timeout=self._timeout)
        store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        distributed.init_process_group(
            self._get_process_group_backend(),
            store=store,
            rank=self.launched.rank,
            timeout=self._timeout,
            world_size=self.launched.world_size,
            device_id=self.root_device if self.root_device.type != "cpu" else None,
        )


def leave_process_group() -> None:
    """Destroy the process group, if there is one.

    Lightning does so at the exit of processes with GPUs only. On CPUs Gloo's threads would outlive
    the interpreter, and sometimes abort the process after a finished training
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


class WatchingLauncher(_SubprocessScriptLauncher):
    """Lightning's subprocess launcher that names the first failed process.

    Lightning's own observer sends SIGKILL to all processes up to 5 s after a failure. That would
    cut off the roll call of the remaining ranks, and the exit code 143 of a preempted training.
    """

    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any
    ) -> Any:
        """Start the other processes once, and call the function in this one."""
        finished = threading.Event()
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        if self.procs:
            first_rank = self.cluster_environment.node_rank() * self.num_processes + 1
            threading.Thread(
                target=watch_children, args=(self.procs, first_rank, finished), daemon=True
            ).start()
        _set_num_threads_if_needed(self.num_processes)
        try:
            return function(*args, **kwargs)
        finally:
            finished.set()


def watch_children(
    children: list[subprocess.Popen[bytes]], first_rank: int, finished: threading.Event
) -> None:
    """End all processes of this machine if a child has failed and this process still waits for it.

    Args:
        children: The processes that this one started.
        first_rank: The rank of the first child.
        finished: Set when the training of this process is over.
    """
    while not finished.wait(CHILD_POLL_INTERVAL_S):
        failed = [
            (first_rank + i, child.returncode) for i, child in enumerate(children) if child.poll()
        ]
        # This process needs some time to notice the loss, call the roll and report it by itself.
        if failed and not finished.wait(2 * detect.ROLL_CALL_TIMEOUT_S):
            rank, code = failed[0]
            print(
                f"error: {_describe_exit(rank, code)}. Ending all other ranks",
                file=sys.stderr,
                flush=True,
            )
            for child in children:
                child.kill()
            os._exit(2)


def _describe_exit(rank: int, code: int) -> str:
    if code < 0:
        return f"rank {rank} was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"rank {rank} exited with code {code}"
