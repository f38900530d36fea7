"""Throughput of two processes with one thread each against one process with one thread: `make bench-processes`.

Each round measures both, one after the other, so that a drift of the machine's speed meets them alike; what is
reported is the median over the rounds of the ratios within a round. The global batch is the same. The clock starts
when all processes have trained for some iterations, and stops where the last of them ends. Both train as a user
does, but for the scores and grids, of which none is due. It needs as many idle cores as processes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import asked, told
from benchmarks.throughput import Clock
from gan_lab.config.schema import with_values
from gan_lab.runs.run_folder import RunFolder

WARM_UP, MEASURED = 20, 150  # iterations
ROUNDS = 5
WORLD = 2


# not fork: the children must not inherit the threads of torch in this process
CONTEXT: Any = multiprocessing.get_context("spawn")


def process(
    name: str,
    words: list[str],
    warm_up: int,
    measured: int,
    environment: dict[str, str],
    folder: str,
    ends: Any,
) -> None:
    """Train as one of the processes; put when the first and the last measured iteration ended."""
    os.environ.update(environment)
    import torch

    from gan_lab.config import loading
    from gan_lab.training import builder

    torch.set_num_threads(1)
    loaded = loading.load(
        name, ["log.wandb=off", "log.progress_bar=false", "log.log_every_images=1_000", *words]
    )
    images = loaded.config.data.batch_size * (warm_up + measured + 1)
    never = {"run.evaluate_every_images": 10**9, "log.grid_every_images": 10**9}
    made = with_values(loaded.config, {"run.images": images, **never})
    place = Path(folder) / environment.get("RANK", "0")
    (place / "checkpoints").mkdir(parents=True)
    clock = Clock()
    built = builder.build(*builder.load_data(made), RunFolder(place), extra=[clock])
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(built.family, datamodule=built.data)
    ends.put(
        (clock.ends[warm_up - 1], clock.ends[warm_up + measured - 1], loaded.config.data.batch_size)
    )


def speed(name: str, words: list[str], world: int) -> float:
    """Images per second of so many processes with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1"}
    if world > 1:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "GROUP_RANK": "0",
                   "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "bench"}  # fmt: skip
    ends = CONTEXT.Queue()
    with tempfile.TemporaryDirectory() as folder:
        every = []
        for rank in range(world):
            mine = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
            # the constants are arguments: a child that is spawned imports this module and sees only the defaults
            arguments = (name, words, WARM_UP, MEASURED, shared | mine, folder, ends)
            every.append(CONTEXT.Process(target=process, args=arguments))
            every[-1].start()
        for one in every:
            one.join()
        if any(one.exitcode for one in every):
            sys.exit(f"a process of {name} failed")
        measured = [ends.get() for _ in every]
    seconds = max(last for _, last, _ in measured) - min(first for first, _, _ in measured)
    return MEASURED * float(measured[0][2]) / seconds


def main() -> None:
    experiments, words, rounds = asked(__doc__, ["dcgan"], ROUNDS)
    for name in experiments:
        ratios = []
        for number in range(1, rounds + 1):
            one, several = speed(name, words, 1), speed(name, words, WORLD)
            ratios.append(several / one)
            print(
                f"{name} {number}: 1 process {one:,.0f} images/s  {WORLD} processes {several:,.0f} images/s",
                flush=True,
            )
        print(f"{name}: {WORLD} processes / 1 process = {told(ratios)} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
