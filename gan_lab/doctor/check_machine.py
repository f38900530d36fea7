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

# DataLoader workers crash with a bus error in the 64 MB that Docker provides by default
MIN_SHARED_MEMORY_BYTES = 0.5 * GB
SHARED_MEMORY = Path("/dev/shm")
NVIDIA_DRIVER_FILE = Path("/proc/driver/nvidia/version")
CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


def interpreter(config: Config) -> Finding:
    """Check the Python version."""
    level: Level = "ok" if sys.version_info >= (3, 11) else "FAIL"
    return Finding(
        level,
        f"{platform.python_version()}, {sys.executable}",
        "" if level == "ok" else "3.11 or newer",
    )


def torch_and_torchvision(config: Config) -> Finding:
    """Check that torch and torchvision match: otherwise the import of torchvision raises."""
    import torch
    import torchvision

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    versions = f"{torch.__version__} with torchvision {torchvision.__version__}"
    return Finding("ok", f"{versions}, {cuda}")


def devices(config: Config) -> Finding:
    """Check that torch can use the GPUs, and that each computes a matrix product correctly."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        driver = NVIDIA_DRIVER_FILE.exists() or shutil.which("nvidia-smi")
        if not driver and torch.backends.mps.is_available():
            return Finding(
                "ok", "Apple GPUs have no float64, which the lab needs: training uses the CPU"
            )
        if not driver:
            return Finding("ok", "no GPU: training uses the CPU")
        reason = str(caught[0].message).splitlines()[0] if caught else "torch finds none"
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"
        cuda = torch.version.cuda or "and a torch with CUDA"
        return Finding(
            "FAIL",
            f"an NVIDIA driver is installed, but no GPU is usable{shown}: {reason}",
            f"install a driver for CUDA {cuda}, or use --gpus all in Docker",
        )
    gpus = []
    for number in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 64**3:
            return Finding(
                "FAIL",
                f"GPU {number} computes a wrong product",
                "exclude it with CUDA_VISIBLE_DEVICES",
            )
        free, total = torch.cuda.mem_get_info(number)
        gpus.append(
            f"{torch.cuda.get_device_name(number)} ({free / GB:.0f} of {total / GB:.0f} GB free)"
        )
    return Finding("ok", ", ".join(gpus))


def threads(config: Config) -> Finding:
    """Check that torch does not use more threads than there are cores."""
    import torch

    cores = float(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if CPU_QUOTA_FILE.is_file():
        share, _, period = CPU_QUOTA_FILE.read_text(encoding="utf-8").partition(" ")
        cores = cores if share == "max" else min(cores, int(share) / int(period))
    used = torch.get_num_threads()
    text = f"{used} threads on {cores:g} cores"
    if used > cores + 0.99:
        return Finding(
            "warn",
            text,
            f"OMP_NUM_THREADS={max(1, int(cores))}: too many threads slow each other down",
        )
    return Finding("ok", text)


def precision(config: Config) -> Finding:
    """Check whether another precision is faster on this processor."""
    from gan_lab import device

    advice = device.advise_on_bf16(config.run.precision)
    is_slower = config.run.precision == "bf16-mixed" and bool(advice)
    return Finding("warn" if is_slower else "ok", f"run.precision={config.run.precision}", advice)


def shared_memory(config: Config) -> Finding:
    """Check the size of /dev/shm, through which DataLoader workers pass their batches."""
    if not SHARED_MEMORY.is_dir():
        return Finding("ok", "this system has no /dev/shm")
    size = shutil.disk_usage(SHARED_MEMORY).total
    text = f"/dev/shm has {size / 1e6:,.0f} MB"
    if size < MIN_SHARED_MEMORY_BYTES:
        return Finding("warn", text, "use data.workers=0, or --shm-size=2g in a container")
    return Finding("ok", text)
