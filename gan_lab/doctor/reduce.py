"""One process of the doctor's all-reduce: python -m gan_lab.doctor.reduce gloo WORLD PORT RANK."""

from __future__ import annotations

import sys
from datetime import timedelta

import torch
from torch import distributed

from gan_lab.utils.errors import UserError

TIMEOUT_S = 30


def reduce(backend: str, world: int, number: int, rank: int) -> None:
    """Run one process of the all-reduce.

    Raises:
        UserError: The sum is wrong.
    """
    address = f"tcp://127.0.0.1:{number}"
    limit = timedelta(seconds=TIMEOUT_S)
    distributed.init_process_group(
        backend, init_method=address, timeout=limit, world_size=world, rank=rank
    )
    value = torch.tensor([float(rank + 1)], device=f"cuda:{rank}" if backend == "nccl" else "cpu")
    distributed.all_reduce(value)
    if value.item() != world * (world + 1) / 2:
        raise UserError(f"the sum is {value.item()} instead of {world * (world + 1) / 2}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    reduce(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
