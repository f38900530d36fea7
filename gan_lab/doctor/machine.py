"""The interpreter, torch, and what this machine lets them use."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import GB, Finding, Level

ENOUGH_SHARED_MEMORY = 0.5 * GB  # Docker's default is 64 MB, in which loader processes die of a bus error
SHARED_MEMORY = Path("/dev/shm")
DRIVER = Path("/proc/driver/nvidia/version")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def interpreter(config: Config) -> Finding:
    """The interpreter."""
    level: Level = "ok" if sys.version_info >= (3, 11) else "FAIL"
    return Finding(level, f"{platform.python_version()}, {sys.executable}", "" if level == "ok" else "3.11 or newer")


def torch_and_torchvision(config: Config) -> Finding:
    """torch, and whether torchvision belongs to it: of another torch, its import raises."""
    import torch
    import torchvision

    return Finding("ok", f"{torch.__version__} with torchvision {torchvision.__version__}, "
                         f"{f'CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'}")  # fmt: skip


def devices(config: Config) -> Finding:
    """The GPUs that torch can use, each of which multiplies two matrices; and a driver that torch cannot use."""
    import torch

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        driver = DRIVER.exists() or shutil.which("nvidia-smi")
        if not driver and torch.backends.mps.is_available():
            return Finding("ok", "Apple's GPU knows no float64, in which the lab counts: training uses the processor")
        if not driver:
            return Finding("ok", "no GPU, training uses the processor")
        reason = str(heard[0].message).splitlines()[0] if heard else "torch sees none"
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"
        return Finding("FAIL", f"there is an NVIDIA driver, but no GPU can be used{shown}: {reason}",
                       f"a driver for CUDA {torch.version.cuda or 'and a torch with CUDA'}, or in a container --gpus all")  # fmt: skip
    seen = []
    for number in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 64**3:
            return Finding("FAIL", f"GPU {number} multiplies wrongly", "take it out by CUDA_VISIBLE_DEVICES")
        free, total = torch.cuda.mem_get_info(number)
        seen.append(f"{torch.cuda.get_device_name(number)} ({free / GB:.0f} of {total / GB:.0f} GB free)")
    return Finding("ok", ", ".join(seen))


def threads(config: Config) -> Finding:
    """The threads that torch will use, against the cores that this process may use."""
    import torch

    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if QUOTA.is_file():
        share, _, period = QUOTA.read_text(encoding="utf-8").partition(" ")
        cores = cores if share == "max" else min(cores, int(share) / int(period))
    used = torch.get_num_threads()
    text = f"{used} threads on {cores:g} cores"
    if used > cores + 0.99:
        return Finding("warn", text, f"OMP_NUM_THREADS={max(1, int(cores))}, or they wait for each other")
    return Finding("ok", text)


def shared_memory(config: Config) -> Finding:
    """/dev/shm, through which loader processes hand over their batches."""
    if not SHARED_MEMORY.is_dir():
        return Finding("ok", "this system has no /dev/shm")
    size = shutil.disk_usage(SHARED_MEMORY).total
    text = f"/dev/shm has {size / 1e6:,.0f} MB"
    if size < ENOUGH_SHARED_MEMORY:
        return Finding("warn", text, "data.workers=0, or in a container --shm-size=2g")
    return Finding("ok", text)
