"""Measure the throughput of two processes relative to one (make bench-processes).

Each process has one thread. Each round measures both consecutively, so that slow changes of the
machine's speed affect both; the result is the median of the ratios within rounds. The global batch
size is the same. The clock starts after all processes have trained for some iterations, and stops
when the last one ends. The trainings have all features except for scores and sample grids. The
benchmark needs as many idle cores as processes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import parse_arguments, report_ratios
from benchmarks.throughput import Clock
from gan_lab.config.schema import with_values
from gan_lab.runs.run_folder import RunFolder

WARMUP_ITERATIONS = 20
MEASURED_ITERATIONS = 150
ROUNDS = 5
WORLD_SIZE = 2


# Not fork, because the children must not inherit the torch threads of this process.
CONTEXT: Any = multiprocessing.get_context("spawn")


def train_rank(
    name: str,
    overrides: list[str],
    warmup: int,
    measured: int,
    environment: dict[str, str],
    folder: str,
    ends: Any,
) -> None:
    """Train as one of the processes.

    Put the ends of the last warmup and of the last measured iteration, and the batch size, into the
    queue ``ends``.
    """
    os.environ.update(environment)
    import torch

    from gan_lab.config import loading
    from gan_lab.training import builder

    torch.set_num_threads(1)
    loaded = loading.load(
        name, ["log.wandb=off", "log.progress_bar=false", "log.log_every_images=1_000", *overrides]
    )
    images = loaded.config.data.batch_size * (warmup + measured + 1)
    never = {"run.evaluate_every_images": 10**9, "log.grid_every_images": 10**9}
    config = with_values(loaded.config, {"run.images": images, **never})
    run_folder = Path(folder) / environment.get("RANK", "0")
    (run_folder / "checkpoints").mkdir(parents=True)
    clock = Clock()
    built = builder.build(*builder.load_data(config), RunFolder(run_folder), extra=[clock])
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(built.family, datamodule=built.data)
    ends.put(
        (clock.ends[warmup - 1], clock.ends[warmup + measured - 1], loaded.config.data.batch_size)
    )


def measure_speed(name: str, overrides: list[str], world: int) -> float:
    """Measure the images per second of ``world`` processes with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1"}
    if world > 1:
        shared |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": str(world),
            "GROUP_RANK": "0",
            "LOCAL_WORLD_SIZE": str(world),
            "TORCHELASTIC_RUN_ID": "bench",
        }
    ends = CONTEXT.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
            # Pass the constants as arguments, because a spawned child imports this module again and
            # would not see changed values.
            arguments = (
                name,
                overrides,
                WARMUP_ITERATIONS,
                MEASURED_ITERATIONS,
                shared | own,
                folder,
                ends,
            )
            processes.append(CONTEXT.Process(target=train_rank, args=arguments))
            processes[-1].start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"A process of {name} failed. See its traceback above.")
        measured = [ends.get() for _ in processes]
    seconds = max(last for _, last, _ in measured) - min(first for first, _, _ in measured)
    return MEASURED_ITERATIONS * float(measured[0][2]) / seconds


def main() -> None:
    options = parse_arguments(__doc__, ["dcgan"], ROUNDS)
    for name in options.experiments:
        ratios = []
        for number in range(1, options.rounds + 1):
            single = measure_speed(name, options.overrides, 1)
            several = measure_speed(name, options.overrides, WORLD_SIZE)
            ratios.append(several / single)
            print(
                f"{name} {number}: 1 process {single:,.0f} images/s  "
                f"{WORLD_SIZE} processes {several:,.0f} images/s",
                flush=True,
            )
        compared = f"{WORLD_SIZE} processes / 1 process"
        report_ratios(compared, name, options, ratios, f" on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
