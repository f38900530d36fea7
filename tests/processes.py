"""Trainings in processes of their own, forked from a server that has everything imported, so that a start costs little.

A training can be killed from within, with SIGKILL, at an instant that is named: ``Kill("evaluation", 2)`` is in the
middle of its second evaluation.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["gan_lab.experiment", "gan_lab.families.gan", "gan_lab.sweeps.engine"])


@dataclass
class Kill:
    """SIGKILL to oneself at the count-th time that the process is in this place."""

    place: str  # step, evaluation, writing (the checkpoint half written), renaming, row (of metrics.csv)
    count: int

    def install(self) -> None:
        from gan_lab.callbacks import checkpoint
        from gan_lab.callbacks.record import Table
        from gan_lab.families.base import Family
        from gan_lab.metrics.evaluate import Evaluator

        seen = 0

        def die_before(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == self.count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return wrapped

        if self.place == "step":
            Family.descend = die_before(Family.descend)  # type: ignore[method-assign]
        elif self.place == "evaluation":
            Evaluator._over_batches = die_before(Evaluator._over_batches)  # type: ignore[method-assign]
        elif self.place == "writing":
            checkpoint.os.fsync = die_before(os.fsync)
        elif self.place == "renaming":
            checkpoint.os.replace = die_before(os.replace)
        elif self.place == "row":
            Table.append = die_before(Table.append)  # type: ignore[method-assign]
        else:
            raise ValueError(self.place)


def _train(experiment: str, words: Sequence[str], kill: Kill | None, environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    from gan_lab import config, verbs
    from gan_lab import experiment as lab
    from gan_lab.callbacks import checkpoint

    lab.rank_zero_only.rank = int(environment.get("RANK", 0))
    checkpoint.SECONDS_BETWEEN = 0.3
    if kill:
        kill.install()
    draws: list[tuple[str, int, torch.Tensor]] = []
    if "RECORD_DRAWS" in environment:
        record_draws(draws)
    code = verbs.train(config.load(experiment, words), words)
    if "RECORD_DRAWS" in environment:
        torch.save(draws, f"{environment['RECORD_DRAWS']}-rank{environment['RANK']}.pt")
    os._exit(code)


def record_draws(draws: list[tuple[str, int, torch.Tensor]]) -> None:
    """Note everything normal that this process draws for a step, as (purpose, iteration, values)."""
    from gan_lab.seeding import Stream

    real = Stream.normal

    def noted(stream: Stream, n: int, *shape: int, like: torch.Tensor) -> torch.Tensor:
        values = real(stream, n, *shape, like=like)
        if stream.purpose not in ("evaluate", "samples"):
            draws.append((stream.purpose, stream.index, values.clone()))
        return values

    Stream.normal = noted  # type: ignore[method-assign]


def start(
    experiment: str,
    words: Sequence[str],
    log: Path,
    kill: Kill | None = None,
    environment: dict[str, str] | None = None,
) -> Any:
    """A training that has been started; ``join`` it and read its ``exitcode``."""
    process = CONTEXT.Process(target=_train, args=(experiment, words, kill, environment or {}, log))
    process.start()
    return process


def train(
    experiment: str, words: Sequence[str], log: Path, kill: Kill | None = None, world: int = 1, draws: str = ""
) -> int:
    """Train to the end, in ``world`` processes over gloo; the exit code of the first that failed."""
    noted = {"RECORD_DRAWS": draws, "RANK": "0"} if draws else {}
    if world == 1:
        every = [start(experiment, words, log, kill, noted)]
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "GROUP_RANK": "0",
                  "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "test", **noted}  # fmt: skip
        ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
        every = [start(experiment, words, log, kill, environment) for environment in ranks]
    for process in every:
        process.join(240)
        if process.exitcode is None:
            process.kill()
    codes = [process.exitcode for process in every]
    return next((code for code in codes if code != 0), 0)
