"""The position of a training, without one: what a data module follows."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from gan_lab.data.base import GANDataModule


def attach(
    data: GANDataModule,
    iteration: int = 0,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Let the data be those of rank ``rank`` of a training that resumes after ``iteration``."""
    shares = [(part * world + rank, parts * world) for part in range(parts)]
    position = SimpleNamespace(
        iteration=iteration,
        branch=0,
        minibatches=1,
        parts=parts,
        shares=shares,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    data.follow(position)  # type: ignore[arg-type]
