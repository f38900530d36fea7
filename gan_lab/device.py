"""Device settings: precision, determinism, memory limits, and the compiler of torch.compile."""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gan_lab.utils.errors import UserError

# on Linux
CPU_INFO = Path("/proc/cpuinfo")


def get_default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_precision(precision: str) -> None:
    """Configure torch for a ``run.precision``.

    TF32 is only enabled for ``tf32``; torch enables it for convolutions by default. cuDNN is
    restricted to deterministic algorithms, so that a resumed run is bit-identical to an
    uninterrupted one.
    """
    _allow_tf32(precision == "tf32")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Disable autocast and TF32 inside the context: scores do not depend on ``run.precision``."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _allow_tf32(False)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def multiplies_bf16() -> bool:
    """Return whether this CPU has instructions for bfloat16; False where Linux does not say."""
    if not CPU_INFO.is_file():
        return False
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", CPU_INFO.read_text("utf-8")))


def advise_on_bf16(precision: str) -> str:
    """Return which ``run.precision`` is faster on this processor; "" on a GPU, or if none is.

    float32 and bfloat16 need the same number of images for the same scores. Only convolutions are
    faster: casting takes longer than the products of small MLPs.
    """
    if torch.cuda.is_available():
        return ""
    if precision == "32-true" and multiplies_bf16():
        return (
            "This processor multiplies bfloat16: run.precision=bf16-mixed trains convolutional "
            "networks faster (but small MLPs slower)"
        )
    if precision == "bf16-mixed" and not multiplies_bf16():
        return (
            "run.precision=bf16-mixed: this processor does not multiply bfloat16, so "
            "run.precision=32-true is faster"
        )
    return ""


def peak_memory() -> float:
    """Return the peak memory of this process in MB, on a GPU that of the GPU; 0 on Windows."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def limit_memory() -> Iterator[None]:
    """Make allocations beyond the free memory fail inside the context, with torch's error message.

    Otherwise Linux kills a process without a message. No effect on other systems and on a GPU.
    """
    # the CUDA driver reserves address space that it never uses
    if get_default_device().type == "cuda":
        yield
        return
    try:
        with (
            open("/proc/meminfo", encoding="ascii") as memory,
            open("/proc/self/status", encoding="ascii") as status,
        ):
            free, used = (
                _kilobytes(file.read(), name)
                for file, name in ((memory, "MemAvailable"), (status, "VmData"))
            )
        import resource
    except (OSError, ValueError, ImportError):
        # This system is not Linux.
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = before[1] if before[1] != resource.RLIM_INFINITY else sys.maxsize
    resource.setrlimit(resource.RLIMIT_DATA, (min(1024 * (used + free), ceiling), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _kilobytes(table: str, name: str) -> int:
    """Read a row of /proc/meminfo or /proc/self/status in kB.

    Raises:
        UserError: There is no such row.
    """
    for line in table.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise UserError(f"no row {name}")


def check_compiler() -> None:
    """Check that there is a C++ compiler for ``run.compile``; on a CPU warn that it may be slower.

    Raises:
        UserError: There is no compiler.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"run.compile=true needs a C++ compiler, but {compiler} was not found. Install it, set "
            "CXX=..., or remove run.compile"
        )
    if not torch.cuda.is_available():
        warnings.warn(
            "run.compile=true is for GPUs; on a CPU small networks train slower with it",
            stacklevel=2,
        )
