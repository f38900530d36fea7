"""Settings of a GPU: exact arithmetic, and the same result each time; and what a compiled network needs."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gan_lab.utils.errors import UserError


def here() -> torch.device:
    """The GPU, if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_precision(precision: str) -> None:
    """Set up torch for a training or an evaluation with this ``run.precision``.

    float32 is float32 in products and convolutions alike, as on a CPU, unless ``tf32`` is asked for (torch rounds the
    factors of convolutions to 10 bits of its own accord), and of cuDNN's algorithms only those are taken that give the
    same result each time: a continued run is bit-equal to an uninterrupted one.
    """
    _allow_tf32(precision == "tf32")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Switch autocast and TF32 off inside the context: scores do not depend on ``run.precision``."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _allow_tf32(False)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def peak_memory() -> float:
    """The most memory that this process has held, in MB; on a GPU, of the GPU; 0 where the system does not say (Windows)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def within_memory() -> Iterator[None]:
    """Let an allocation fail inside the context where it is more than the machine has: torch's error names it.

    Without it Linux ends the process, or another one, without a word. Elsewhere, and on a GPU, nothing is changed.
    """
    if here().type == "cuda":  # whose driver reserves what it never uses
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
    except (OSError, ValueError, ImportError):  # another system
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
    """A row of one of Linux's tables of memory. Raises UserError if it is not there."""
    for line in table.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise UserError(f"there is no {name}")


def check_compiler() -> None:
    """Raise UserError if there is no C++ compiler, which ``run.compile`` needs; on a CPU warn that it may not be worth it."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UserError(f"run.compile=true needs a C++ compiler, and {compiler} is not there: install one, name it by CXX=..., "
                         "or leave run.compile out")  # fmt: skip
    if not torch.cuda.is_available():
        warnings.warn(
            "run.compile=true is made for GPUs; on a CPU small networks train slower with it",
            stacklevel=2,
        )
