"""Stateless randomness: everything random is a function of (seed, purpose, index), sliced by rank.

A resumed run needs no saved generator state, ranks differ, and N processes draw exactly what one process draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor


def key(seed: int, purpose: str, index: int = 0, rank: int = 0) -> int:
    """A 128-bit key that is different for every argument list."""
    return int.from_bytes(
        blake2b(f"{seed}/{purpose}/{index}/{rank}".encode(), digest_size=16).digest(), "little"
    )


def branch_seed(seed: int, branch: int) -> int:
    """The seed of a run that went back to a checkpoint ``branch`` times: the seed itself, or another for each."""
    return key(seed, "branch", branch) % 2**63 if branch else seed


def seed_torch(seed: int, purpose: str, index: int = 0, rank: int = 0) -> None:
    """Seed torch's global generators, which only initialisation and draws inside networks (dropout) use."""
    number = key(seed, purpose, index, rank) % 2**63
    torch.default_generator.manual_seed(number)
    if (
        torch.cuda.is_initialized()
    ):  # is_available would ask the driver each time, torch.manual_seed also other devices
        torch.cuda.manual_seed_all(number)


def permutation(seed: int, purpose: str, index: int, n: int) -> np.ndarray:
    """A random order of 0..n-1, int64 [n]."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, index))).permutation(n)


@dataclass(frozen=True)
class Stream:
    """Random numbers for one purpose at one index (an iteration, or the number of a batch).

    Every draw is made for the global batch of ``n * world`` rows; rank r gets rows r*n to (r+1)*n. Two draws of one
    kind from one stream are the same numbers: a second set of latents needs a second purpose. Draws of two kinds are
    independent of each other. Vectors are the same on every device; what has the shape of images is drawn on the device
    itself, so that a GPU draws others than a CPU.
    """

    seed: int
    purpose: str
    index: int = 0
    rank: int = 0
    world: int = 1

    def normal(self, n: int, *shape: int, like: Tensor) -> Tensor:
        """Standard normal [n, *shape], of the device and the floating type of ``like``."""
        return self._draw(
            self.purpose, n, shape, like, torch.randn, np.random.Generator.standard_normal
        )

    def uniform(self, n: int, *shape: int, like: Tensor) -> Tensor:
        """Uniform in [0, 1), [n, *shape], of the device and the floating type of ``like``."""
        return self._draw(
            f"{self.purpose}/uniform", n, shape, like, torch.rand, np.random.Generator.random
        )

    def _draw(
        self, purpose: str, n: int, shape: tuple[int, ...], like: Tensor, there: Any, here: Any
    ) -> Tensor:
        number, everything = key(self.seed, purpose, self.index), (n * self.world, *shape)
        share = slice(self.rank * n, (self.rank + 1) * n)
        if (
            like.device.type == "cuda" and len(shape) > 1
        ):  # megabytes, which the host would draw and send
            generator = torch.Generator(like.device).manual_seed(number % 2**63)
            return there(everything, generator=generator, device=like.device)[share].to(like.dtype)
        drawn = here(
            np.random.Generator(np.random.Philox(key=number)), everything, dtype=np.float32
        )
        return send_to_device(torch.from_numpy(drawn[share]), like.device, like.dtype)


def send_to_device(
    tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """On a device, without making the host wait: it does for what is larger than 64 KB, unless that is pinned."""
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.nbytes > 2**16:
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=True)
