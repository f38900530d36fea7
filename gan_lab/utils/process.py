"""Child processes that do not outlive this one, even if it gets SIGKILL (on Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gan_lab.utils import openmp
from gan_lab.utils.errors import UserError

PR_SET_PDEATHSIG = 1
POLL_INTERVAL_S = 0.1
# Windows has no process groups
GROUP_OPTIONS: dict[str, Any] = {"process_group": 0} if hasattr(os, "killpg") else {}


def start(
    command: Sequence[str],
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_death: signal.Signals = signal.SIGTERM,
    errors: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a command in its own process group.

    Args:
        command: The command.
        log: File to append its output to; by default the output is inherited.
        environment: Its environment; by default inherited.
        on_death: Signal that it gets when this process dies.
        errors: Inherit stderr instead of writing it to ``log``.

    Raises:
        UserError: The program does not exist.
    """
    preexec = _die_with_parent(os.getpid(), on_death) if sys.platform == "linux" else None
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log and not errors else None,
            env=None if environment is None else dict(environment),
            preexec_fn=preexec,
            **GROUP_OPTIONS,
        )
    except FileNotFoundError:
        raise UserError(f"command: program not found: {command[0]}") from None
    finally:
        if output:
            output.close()


def share_cores(processes: int) -> dict[str, str]:
    """Return the environment variables that give each of several processes its share of cores.

    Threads of processes that compete for the same cores wait for each other, and use several times
    the CPU time of one thread. An ``OMP_NUM_THREADS`` of this process is kept; a single process
    gets all cores.
    """
    if processes == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, openmp.count_threads() // processes))}


def run(command: Sequence[str]) -> int:
    """Run a command, discard its stdout, and return its exit code.

    Ctrl-C and SIGTERM are forwarded; after the command has ended they raise SystemExit. If this
    process is killed, so is the command: it must not block a command that replaces it.
    """
    with Signals().watched() as signals:
        child = start(command, Path(os.devnull), on_death=signal.SIGKILL, errors=True)
        forwarded = 0
        while (code := child.poll()) is None:
            if signals.times > forwarded:
                child.terminate()
                forwarded = signals.times
            time.sleep(POLL_INTERVAL_S)
    if signals.number:
        raise SystemExit(128 + signals.number)
    return code


def _die_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    # looked up before the fork: as little code as possible may run between fork and exec
    prctl = ctypes.CDLL(None).prctl

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        # the parent died before prctl
        if os.getppid() != parent:
            os.kill(os.getpid(), number)

    return request_signal


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its process group."""
    with suppress(ProcessLookupError, PermissionError):
        if GROUP_OPTIONS:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


class Signals:
    """Records Ctrl-C and SIGTERM: the latest signal, and the number of signals."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.times = 0

    @contextmanager
    def watched(self) -> Iterator[Signals]:
        """Record the signals inside the context instead of exiting."""
        previous = {
            number: signal.signal(number, self._record)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _record(self, number: int, frame: object) -> None:
        self.number, self.times = number, self.times + 1
