"""Settings of a GPU: exact arithmetic, and the same result each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
