"""Stateless random numbers: functions of (seed, purpose, index), sliced by rank.

Resuming needs no saved generator state, ranks get different numbers, and N ranks together get
exactly the numbers of a single process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


def key(seed: int, purpose: str, index: int = 0, rank: int = 0) -> int:
    """Hash the arguments to a 128-bit key."""
    text = f"{seed}/{purpose}/{index}/{rank}"
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "little")


def branch_seed(seed: int, branch: int) -> int:
    """Return the seed of a run after ``branch`` rollbacks; without any, the seed itself."""
    return key(seed, "branch", branch) % 2**63 if branch else seed


def seed_torch(seed: int, purpose: str, index: int = 0, rank: int = 0) -> None:
    """Seed torch's global generators, which only weight initialization and dropout use."""
    number = key(seed, purpose, index, rank) % 2**63
    # faster in a training loop than torch.manual_seed, which also seeds other backends, and
    # is_available, which queries the driver
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def permutation(seed: int, purpose: str, index: int, n: int) -> np.ndarray:
    """Return a random permutation of 0..n-1, int64 [n]."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, index))).permutation(n)


class DrawRecorder(Protocol):
    """Answers the draws of a training step that is captured as a graph."""

    def take(self, stream: Stream, kind: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the numbers of ``stream.sample(kind, shape, like)``."""


_draw_recorder: ContextVar[DrawRecorder | None] = ContextVar("draw_recorder", default=None)


@contextmanager
def recording(recorder: DrawRecorder) -> Iterator[None]:
    """Let a recorder answer all draws inside the context."""
    token = _draw_recorder.set(recorder)
    try:
        yield
    finally:
        _draw_recorder.reset(token)


@dataclass(frozen=True)
class Stream:
    """Random numbers for one purpose at one index (an iteration or a batch index).

    Each call samples the global batch of ``n * world`` rows; rank r gets rows r*n to (r+1)*n.
    Calling a method again returns the same numbers: a second set of latents needs a second purpose.
    Normal and uniform numbers are independent. Vectors are identical on all devices. Image-shaped
    numbers are sampled on the device itself, so they differ between GPU and CPU.
    """

    seed: int
    purpose: str
    index: int = 0
    rank: int = 0
    world: int = 1

    def normal(self, n: int, *shape: int, like: Tensor) -> Tensor:
        """Sample from N(0, 1): [n, *shape], with the device and dtype of ``like``."""
        return self._draw("normal", (n, *shape), like)

    def uniform(self, n: int, *shape: int, like: Tensor) -> Tensor:
        """Sample uniformly from [0, 1): [n, *shape], with the device and dtype of ``like``."""
        return self._draw("uniform", (n, *shape), like)

    def _draw(self, kind: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        recorder = _draw_recorder.get()
        if recorder is None:
            return self.sample(kind, shape, like)
        return recorder.take(self, kind, shape, like)

    def sample(self, kind: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Sample ``normal`` or ``uniform`` numbers of a shape, past any recorder."""
        is_normal = kind == "normal"
        purpose = self.purpose if is_normal else f"{self.purpose}/uniform"
        stream_key = key(self.seed, purpose, self.index)
        n = shape[0]
        global_shape = (n * self.world, *shape[1:])
        rows = slice(self.rank * n, (self.rank + 1) * n)
        # image-shaped noise is megabytes: sampling it on the host and copying it would be slow
        if like.device.type == "cuda" and len(shape) > 2:
            device_generator = torch.Generator(like.device).manual_seed(stream_key % 2**63)
            sample = torch.randn if is_normal else torch.rand
            sampled = sample(global_shape, generator=device_generator, device=like.device)
            return sampled[rows].to(like.dtype)
        generator = np.random.Generator(np.random.Philox(key=stream_key))
        draw = generator.standard_normal if is_normal else generator.random
        numbers = draw(global_shape, dtype=np.float32)
        return send_to_device(torch.from_numpy(numbers[rows]), like.device, like.dtype)


def send_to_device(
    tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Copy a tensor to a device and a dtype without blocking the host."""
    # CUDA stages up to 64 KB of pageable memory asynchronously; larger copies must be pinned
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.nbytes > 2**16:
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=True)
