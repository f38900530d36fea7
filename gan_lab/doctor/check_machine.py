"""Checks of the interpreter, torch, and the GPUs, cores and shared memory of this machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import GB, Finding, Level

ENOUGH_SHARED_MEMORY = 0.5 * GB  # in Docker's default of 64 MB loader processes die of a bus error
SHARED_MEMORY = Path("/dev/shm")
DRIVER = Path("/proc/driver/nvidia/version")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def interpreter(config: Config) -> Finding:
    """Check the version of the interpreter."""
    level: Level = "ok" if sys.version_info >= (3, 11) else "FAIL"
    return Finding(
        level,
        f"{platform.python_version()}, {sys.executable}",
        "" if level == "ok" else "3.11 or newer",
    )


def torch_and_torchvision(config: Config) -> Finding:
    """Check that torch and torchvision fit: the import of a torchvision built for another torch raises."""
    import torch
    import torchvision

    return Finding("ok", f"{torch.__version__} with torchvision {torchvision.__version__}, "
                         f"{f'CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'}")  # fmt: skip


def devices(config: Config) -> Finding:
    """Check that each GPU multiplies two matrices correctly, and that torch can use the driver if there is one."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        driver = DRIVER.exists() or shutil.which("nvidia-smi")
        if not driver and torch.backends.mps.is_available():
            return Finding(
                "ok", "Apple's GPU has no float64, which the lab needs: training uses the processor"
            )
        if not driver:
            return Finding("ok", "no GPU, training uses the processor")
        reason = str(caught[0].message).splitlines()[0] if caught else "torch sees none"
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"
        return Finding("FAIL", f"there is an NVIDIA driver, but no GPU can be used{shown}: {reason}",
                       f"a driver for CUDA {torch.version.cuda or 'and a torch with CUDA'}, or --gpus all in Docker")  # fmt: skip
    gpus = []
    for number in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 64**3:
            return Finding(
                "FAIL", f"GPU {number} multiplies wrongly", "exclude it by CUDA_VISIBLE_DEVICES"
            )
        free, total = torch.cuda.mem_get_info(number)
        gpus.append(
            f"{torch.cuda.get_device_name(number)} ({free / GB:.0f} of {total / GB:.0f} GB free)"
        )
    return Finding("ok", ", ".join(gpus))


def threads(config: Config) -> Finding:
    """Check that torch uses no more threads than this process has cores."""
    import torch

    cores = float(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if QUOTA.is_file():
        share, _, period = QUOTA.read_text(encoding="utf-8").partition(" ")
        cores = cores if share == "max" else min(cores, int(share) / int(period))
    used = torch.get_num_threads()
    text = f"{used} threads on {cores:g} cores"
    if used > cores + 0.99:
        return Finding(
            "warn", text, f"OMP_NUM_THREADS={max(1, int(cores))}, or they wait for each other"
        )
    return Finding("ok", text)


def shared_memory(config: Config) -> Finding:
    """Check the size of /dev/shm, through which loader processes pass their batches."""
    if not SHARED_MEMORY.is_dir():
        return Finding("ok", "this system has no /dev/shm")
    size = shutil.disk_usage(SHARED_MEMORY).total
    text = f"/dev/shm has {size / 1e6:,.0f} MB"
    if size < ENOUGH_SHARED_MEMORY:
        return Finding("warn", text, "data.workers=0, or in a container --shm-size=2g")
    return Finding("ok", text)
