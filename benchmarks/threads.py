"""Measure what busy-waiting threads cost on idle and on busy cores (make bench-threads).

On idle cores the ratio is the wall-clock time with libgomp's own spin count over that with the
library's. On busy cores, where one endless loop per core runs at the same time, the ratios are CPU
seconds with all threads over those of one thread: with the library's spin count for busy cores, and
with that for idle ones. Times are those of an iteration, without evaluations and grids. Each round
measures all of them consecutively; the results are medians of the ratios within rounds. The machine
must be idle otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from lightning.pytorch import Callback, Trainer

from benchmarks import parse_arguments, report_ratios
from benchmarks.throughput import build
from gan_lab.utils.openmp import BUSY_SPIN_COUNT, IDLE_SPIN_COUNT, count_threads

WARMUP_ITERATIONS = 20
# of each training
MEASURED_SECONDS = 6.0
ROUNDS = 5
LIBGOMP_SPIN_COUNT = 300_000
# more than any training reaches
MAX_IMAGES = 10_000_000
# a new process reads the environment before it imports torch
CONTEXT: Any = multiprocessing.get_context("spawn")


class Seconds(NamedTuple):
    """The mean duration of an iteration."""

    wall: float
    cpu: float


class Clock(Callback):
    """Ends the training some seconds after the warmup.

    Attributes:
        ends: Times at the end of each iteration.
    """

    def __init__(self, warmup: int, seconds: float) -> None:
        self.warmup = warmup
        self.seconds = seconds
        self.ends: list[Seconds] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.ends.append(Seconds(time.perf_counter(), time.process_time()))
        measured = self.ends[self.warmup - 1 :]
        if len(measured) > 1 and measured[-1].wall - measured[0].wall >= self.seconds:
            trainer.should_stop = True


def train(name: str, overrides: list[str], warmup: int, seconds: float, found: Any) -> None:
    """Train in a process of its own, and put the duration of an iteration in a queue."""
    words = ["log.wandb=off", "log.progress_bar=false", "log.live_page=false", *overrides]
    clock = Clock(warmup, seconds)
    with tempfile.TemporaryDirectory() as folder:
        built = build(name, words, Path(folder) / "run", clock, MAX_IMAGES)
        built.evaluation.evaluator.metrics = []
        built.trainer.fit(built.family, datamodule=built.data)
    first, *_, last = clock.ends[warmup - 1 :]
    iterations = len(clock.ends) - warmup
    found.put(Seconds((last.wall - first.wall) / iterations, (last.cpu - first.cpu) / iterations))


def measure(name: str, overrides: list[str], spin_count: int, threads: int) -> Seconds:
    """Measure an iteration of a training with a spin count and a number of threads."""
    found = CONTEXT.Queue()
    # constants as arguments: a spawned child imports this module again
    arguments = (name, overrides, WARMUP_ITERATIONS, MEASURED_SECONDS, found)
    process = CONTEXT.Process(target=train, args=arguments)
    with patch.dict(os.environ, GOMP_SPINCOUNT=str(spin_count), OMP_NUM_THREADS=str(threads)):
        process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"The training of {name} failed. See its traceback above.")
    return Seconds(*found.get())


@contextmanager
def compete(processes: int) -> Iterator[None]:
    """Keep cores busy with endless loops inside the context."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    options = parse_arguments(__doc__, ["ring", "cgan"], ROUNDS)
    threads = count_threads()
    for name in options.experiments:
        idle, busy, unchanged = [], [], []
        for number in range(1, options.rounds + 1):
            own = measure(name, options.overrides, IDLE_SPIN_COUNT, threads).wall
            default = measure(name, options.overrides, LIBGOMP_SPIN_COUNT, threads).wall
            idle.append(default / own)
            with compete(threads):
                one = measure(name, options.overrides, BUSY_SPIN_COUNT, 1).cpu
                own = measure(name, options.overrides, BUSY_SPIN_COUNT, threads).cpu
                high = measure(name, options.overrides, IDLE_SPIN_COUNT, threads).cpu
            busy.append(own / one)
            unchanged.append(high / one)
            print(
                f"{name} {number}: idle {idle[-1]:.3f}  busy {busy[-1]:.2f}, with the spin count "
                f"of idle cores {unchanged[-1]:.2f}",
                flush=True,
            )
        note = f" with {threads} threads"
        report_ratios("wall time, libgomp's spin count / the library's", name, options, idle, note)
        report_ratios("CPU time on busy cores / one thread", name, options, busy, note)
        compared = "CPU time on busy cores with the spin count of idle ones / one thread"
        report_ratios(compared, name, options, unchanged, note)


if __name__ == "__main__":
    main()
