"""Trainings in processes, forked from a server with all imports, so that starts are fast.

Their scores at the end are left out, which take longer than they do. A training can be killed from
within, with SIGKILL, at an instant that is named: ``Kill("evaluation", 2)`` is in the middle of its
second evaluation.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from gan_lab.runs.run_folder import RunFolder

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "gan_lab.training.builder",
        "gan_lab.families.gan",
        "gan_lab.sweeps.worker",
        "gan_lab.cli",
        # what the first evaluation of a training imports, in a quarter of a second for each
        "gan_lab.metrics.extractors.digits",
        "gan_lab.metrics.lpips",
        "gan_lab.metrics.reconstruction",
        "gan_lab.metrics.translation_scores",
        "omegaconf",
        "skimage.metrics",
        "torch.utils.serialization.config",
        # what the first page of a run imports, in two seconds
        "tests.helpers.preloaded",
        "torch._dynamo",
        "torch.export._trace",
        "torch.fx.experimental.symbolic_shapes",
        "torch._functorch.aot_autograd",
    ]
)


@dataclass
class Kill:
    """A signal to oneself, at the count-th time that the process is in this place."""

    # step, evaluation, writing (the checkpoint half written), renaming, row (of metrics.csv)
    place: str
    count: int
    number: int = signal.SIGKILL

    def install(self) -> None:
        from gan_lab.families.base import Family
        from gan_lab.metrics.evaluator import Evaluator
        from gan_lab.training.callbacks import checkpoint
        from gan_lab.training.callbacks.csv_logger import Table

        seen = 0

        def die_before(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == self.count:
                    os.kill(os.getpid(), self.number)
                return real(*args, **kwargs)

            return wrapped

        if self.place == "step":
            Family.minimize = die_before(Family.minimize)  # type: ignore[method-assign]
        elif self.place == "evaluation":
            Evaluator._compute_fake_statistics = die_before(Evaluator._compute_fake_statistics)  # type: ignore[method-assign]
        elif self.place == "writing":
            checkpoint.os.fsync = die_before(os.fsync)
        elif self.place == "renaming":
            checkpoint.os.replace = die_before(os.replace)
        elif self.place == "row":
            Table.append = die_before(Table.append)  # type: ignore[method-assign]
        else:
            raise ValueError(self.place)


def _begin(environment: dict[str, str], log: Path) -> None:
    """What a process of its own would find when it starts."""
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))
    from gan_lab.distributed import detect
    from gan_lab.training import builder as lab
    from gan_lab.training.callbacks import checkpoint, grid_schedule, progress_bar

    lab.rank_zero_only.rank = int(environment.get("RANK", 0))
    checkpoint.CHECKPOINT_INTERVAL_S = float(environment.get("CHECKPOINT_EVERY", 0.3))
    progress_bar.LINE_INTERVAL_S = float(
        environment.get("LINES_EVERY", progress_bar.LINE_INTERVAL_S)
    )
    # which grids a training draws does not depend on the load of the machine, unless a test asks
    grid_schedule.FIRST_GRID_S = float(environment.get("FIRST_GRID", "inf"))
    detect.ROLL_CALL_TIMEOUT_S = 1.0


def _train(
    experiment: str, words: Sequence[str], kill: Kill | None, environment: dict[str, str], log: Path
) -> None:
    _begin(environment, log)
    from gan_lab.config import loading
    from gan_lab.training import loop as lab
    from gan_lab.utils.terminal import log_to_stdout

    if "SCORED" not in environment:
        leave_scores_out()
    if kill:
        if kill.number != signal.SIGKILL:
            signal.signal(
                kill.number, signal.SIG_DFL
            )  # a suite under nohup ignores SIGHUP, and so would this
        kill.install()
    draws: list[tuple[str, int, torch.Tensor]] = []
    if "RECORD_DRAWS" in environment:
        record_draws(draws)
    log_to_stdout()
    code = lab.train(loading.load(experiment, words), words)
    if "RECORD_DRAWS" in environment:
        torch.save(draws, f"{environment['RECORD_DRAWS']}-rank{environment['RANK']}.pt")
    os._exit(code)


def _one_after_the_other(
    trainings: Sequence[tuple[str, Sequence[str]]], environment: dict[str, str], log: Path
) -> None:
    _begin(environment, log)
    from gan_lab.config import loading
    from gan_lab.training import builder
    from gan_lab.training.callbacks.diversity import Diversity

    held = {}
    for name, words in trainings:
        loaded = loading.load(name, words)
        folder = RunFolder.of(loaded).path / environment["RANK"]
        (folder / "checkpoints").mkdir(parents=True)
        built = builder.build(*builder.load_data(loaded.config), RunFolder(folder))
        built.evaluation.evaluator.metrics = []
        built.trainer.callbacks = [
            each for each in built.trainer.callbacks if not isinstance(each, Diversity)
        ]
        built.trainer.fit(built.family, datamodule=built.data)
        weights = {key: value.clone() for key, value in built.family.named_parameters()}
        held[name] = (
            built.family.iteration,
            built.trainer.world_size,
            built.health.csv_logger.latest,
            weights,
        )
    torch.save(held, f"{log}-{environment['RANK']}.pt")
    os._exit(0)


def leave_scores_out() -> None:
    """Skip the scores at the end of a training, and the networks in its page, which take seconds.

    The scores during training are computed.
    """
    from gan_lab.report import live
    from gan_lab.training import loop

    loop.evaluate_all = lambda *_: None
    live.describe_run = lambda *_, **__: (None, "")


def record_draws(draws: list[tuple[str, int, torch.Tensor]]) -> None:
    """Record all normal samples of this process in a step, as (purpose, iteration, values)."""
    from gan_lab.seeding import Stream

    real = Stream.normal

    def noted(stream: Stream, n: int, *shape: int, like: torch.Tensor) -> torch.Tensor:
        values = real(stream, n, *shape, like=like)
        if stream.purpose not in ("evaluate", "samples", "neighbours"):
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


def _run_command(words: Sequence[str], log: Path) -> None:
    _begin({}, log)
    from gan_lab import cli
    from gan_lab.utils import process

    def forked(command: Sequence[str]) -> int:
        parent = os.getpid()
        if (child := os.fork()) == 0:
            process._die_with_parent(parent, signal.SIGKILL)()
            _run_words(cli.main, command[command.index("gan_lab") + 1 :])
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    process.run = forked
    _run_words(cli.main, words)


def _run_words(main: Callable[[], None], words: Sequence[str]) -> NoReturn:
    sys.argv = ["gan-lab", *words]
    code: Any = 0
    try:
        main()
    except SystemExit as exit:
        code = exit.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code or 0)


def start_command(words: Sequence[str], log: Path) -> Any:
    """Start ``gan-lab``; its trainings are forked too. ``join`` it and read its ``exitcode``."""
    process = CONTEXT.Process(target=_run_command, args=(words, log))
    process.start()
    return process


def _run_code(code: str, folder: Path, log: Path) -> None:
    _begin({}, log)
    os.chdir(folder)
    try:
        exec(compile(code, "<documentation>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def start_code(code: str, folder: Path, log: Path) -> Any:
    """A Python program in this folder; ``join`` it and read its ``exitcode``."""
    process = CONTEXT.Process(target=_run_code, args=(code, folder, log))
    process.start()
    return process


def environments(world: int, by: str = "torchrun") -> list[dict[str, str]]:
    """The environment that a launcher gives each of the processes that it starts here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if by == "torchrun":
        shared = {
            "WORLD_SIZE": str(world),
            "GROUP_RANK": "0",
            "LOCAL_WORLD_SIZE": str(world),
            "TORCHELASTIC_RUN_ID": "test",
        }
        return [
            address | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)
        ]
    shared = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "gan",
        "SLURM_NTASKS": str(world),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_STEP_ID": "0",
    }
    return [
        address | shared | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        for rank in range(world)
    ]


def ended(every: Sequence[Any], seconds: float = 240) -> list[int | None]:
    """The exit codes of processes, after all have ended; None for those that had to be killed."""
    end = time.monotonic() + seconds
    for process in every:
        process.join(max(0.0, end - time.monotonic()))
    codes = [process.exitcode for process in every]
    for process in every:
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes


def together(
    experiment: str,
    words: Sequence[str],
    log: Path,
    kills: dict[int, Kill] | None = None,
    by: str = "torchrun",
    noted: dict[str, str] | None = None,
    world: int = 2,
) -> list[int | None]:
    """Train in several processes over gloo; return exit codes by rank. ``kills`` is by rank."""
    every = [start(experiment, words, log, (kills or {}).get(rank), environment | (noted or {}))
             for rank, environment in enumerate(environments(world, by))]  # fmt: skip
    return ended(every)


def one_after_the_other(
    trainings: Sequence[tuple[str, Sequence[str]]], log: Path
) -> list[dict[str, Any]]:
    """Train in two processes, without scores and diversity, which cost more than the steps.

    Of each process and training: its iteration, the number of processes, the last row, and its
    weights. Raises AssertionError if one of them failed.
    """
    every = [
        CONTEXT.Process(target=_one_after_the_other, args=(trainings, environment, log))
        for environment in environments(2)
    ]
    for process in every:
        process.start()
    assert ended(every) == [0, 0], log.read_text()
    return [torch.load(f"{log}-{rank}.pt") for rank in range(2)]


def train(
    experiment: str,
    words: Sequence[str],
    log: Path,
    kill: Kill | None = None,
    world: int = 1,
    draws: str = "",
    scored: bool = False,
    environment: dict[str, str] | None = None,
) -> int:
    """Train to the end in ``world`` processes over gloo; return the first exit code that is not 0.

    ``scored``: with the final scores.
    """
    noted = ({"RECORD_DRAWS": draws} if draws else {}) | ({"SCORED": "1"} if scored else {})
    noted |= environment or {}
    if world == 1:
        codes = ended(
            [start(experiment, words, log, kill, noted | ({"RANK": "0"} if draws else {}))]
        )
    else:
        codes = together(
            experiment,
            words,
            log,
            {rank: kill for rank in range(world) if kill},
            noted=noted,
            world=world,
        )
    return next((-9 if code is None else code for code in codes if code != 0), 0)
