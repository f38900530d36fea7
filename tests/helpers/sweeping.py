"""Sweep workers as processes, a stand-in for the training, and a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.processes import CONTEXT

# Writes three evaluations with score (x - 3)² + 1 / evaluation; SIGTERM ends it between two rows;
# resumes where it was. Each start notes itself and its parent; "hang" waits in the middle of the
# first start; "fail" and "die" do what they say.
TRIAL = """
import os, signal, sys, time
ended = []
signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
words = dict(word.split("=", 1) for word in sys.argv[3:])
folder = os.path.join(words["run.root"], "ring", words["run.id"])
os.makedirs(folder, exist_ok=True)
starts = os.path.join(folder, "starts.txt")
with open(starts, "a") as file:
    file.write(f"{os.getpid()} {os.getppid()}\\n")
first = len(open(starts).readlines()) == 1
x, slot = float(words["x"]), int(words["run.id"][-4:])
table = os.path.join(folder, "metrics.csv")
done = len(open(table).readlines()) - 1 if os.path.exists(table) else 0
if words.get("fail") == "true":
    sys.exit("no such GAN")
if words.get("die") in ("always", "first" if first else "always"):
    os.kill(os.getpid(), signal.SIGKILL)
for evaluation in range(done + 1, 4):
    if not os.path.exists(table):
        open(table, "w").write("iteration,images,loss,score\\n")
    with open(table, "a") as file:
        file.write(f"{evaluation},{evaluation * 64},0.5,{(x - 3) ** 2 + 1 / evaluation}\\n")
    hangs = first and words.get("hang") in (str(slot), "all")
    deadline = time.time() + (30 if hangs else float(words.get("nap", 0.02)))
    while time.time() < deadline and not ended:
        time.sleep(0.005)
    if ended:
        sys.exit(143)
"""


def sweep_file(folder: Path, **given: Any) -> Path:
    """A sweep of the stand-in: random over x unless ``given`` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.py").write_text(TRIAL)
    said = {
        "program": "trial.py",
        "command": [
            "${interpreter}",
            "-I",
            "-S",
            str(folder / "trial.py"),
            "train",
            "ring",
            "${args_no_hyphens}",
        ],
        "method": "random",
        "metric": {"name": "score", "goal": "minimize"},
        "parameters": {"x": {"min": 0.0, "max": 6.0}},
        "run_cap": 4,
    }
    path = folder / "stand_in.yaml"
    path.write_text("# Which x?\n" + yaml.safe_dump(said | given, sort_keys=False))
    return path


def _work(
    path: Path, folder: Path, url: str, slots: int, words: Sequence[str], trained: bool, log: Path
) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from gan_lab.sweeps import sweep_file as file
    from gan_lab.sweeps import worker as engine
    from gan_lab.sweeps.trials import Trials
    from gan_lab.utils import process
    from gan_lab.utils.terminal import log_to_stdout

    log_to_stdout()
    if trained:
        process.start = forked  # type: ignore[assignment]
    sweep = file.load(str(path))
    trials = Trials(sweep, url, heartbeat_interval=1, grace_period=2)
    try:
        code = engine.Worker(sweep, trials, folder, words).run(slots)
    except ValueError as error:
        print(f"error: {error}", flush=True)
        code = 2
    os._exit(code)


def worker(
    path: Path,
    folder: Path,
    url: str = "",
    slots: int = 1,
    words: Sequence[str] = (),
    trained: bool = False,
) -> Any:
    """A worker that has been started. With ``trained`` its trials are trainings, forked from it."""
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{folder / 'trials.db'}"
    process = CONTEXT.Process(
        target=_work, args=(path, folder, url, slots, words, trained, folder / "said.txt")
    )
    process.start()
    return process


class Forked:
    """As much of a ``Popen`` as the engine needs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def forked(command: Sequence[str], log: Path, environment: Any = None) -> Forked:
    """Stands for ``process.start`` of ``python -m gan_lab train ...``, without a new Python."""
    from gan_lab.utils import process

    assert list(command[:3]) == ["/usr/bin/env", sys.executable, "-m"], command
    before = process._die_with_parent(os.getpid())
    pid = os.fork()
    if pid:
        return Forked(pid)
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    before()
    from tests.helpers.processes import _train

    _train(command[5], list(command[6:]), None, {"SCORED": "1"}, log)
    os._exit(1)


def wait_for(found: Callable[[], Any], seconds: float = 60) -> Any:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def starts(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """For each trial of the stand-in the processes that ran it, each with its worker's."""
    found = {}
    for path in sorted(folder.glob("runs/ring/*/starts.txt")):
        rows = [line.split() for line in path.read_text().splitlines()]
        found[path.parent.name] = [(int(pid), int(parent)) for pid, parent in rows]
    return found


# --------------------------------------------------------------------------------------------------
# PostgreSQL


def postgres_binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, off the path on Debian; None if missing."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found and (found[-1] / "postgres").exists() else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield the address of a server on a loopback port.

    PostgreSQL refuses to run as root, so root starts it as another user.
    """
    binaries = postgres_binaries()
    assert binaries
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if as_user:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.STDOUT,
        "check": True,
        "cwd": "/",
    }
    subprocess.run(
        [
            *as_user,
            binaries / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "lab",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
        ],
        **quiet,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run(
        [
            *as_user,
            binaries / "pg_ctl",
            "-D",
            data,
            "-w",
            "-o",
            options,
            "-l",
            data / "log",
            "start",
        ],
        **quiet,
    )
    try:
        yield f"postgresql://lab@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*as_user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet
        )
