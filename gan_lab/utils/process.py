"""Child processes that never outlive this one: each has its own group, and ends even if this one gets SIGKILL."""

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

from gan_lab.utils.errors import UserError

PR_SET_PDEATHSIG = 1
TICK = 0.1  # seconds
GROUP: dict[str, Any] = (
    {"process_group": 0} if hasattr(os, "killpg") else {}
)  # Windows has no process groups


def start(
    command: Sequence[str],
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_death: signal.Signals = signal.SIGTERM,
    errors: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a command and append its output to a file; with ``errors`` what it says on stderr stays where it is.

    When this process dies it gets ``on_death``. Raises UserError if the program does not exist.
    """
    preexec = _die_with_parent(os.getpid(), on_death) if sys.platform == "linux" else None
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if log and not errors else None,
            env=None if environment is None else dict(environment), preexec_fn=preexec, **GROUP,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"command: there is no program {command[0]}") from None
    finally:
        if output:
            output.close()


def run(command: Sequence[str]) -> int:
    """Run a command to its end, its output dropped but for stderr; return its exit code.

    Ctrl-C and SIGTERM are handed on, and when the command has ended SystemExit says that they came. A command whose
    parent was killed is killed too: it must not be in the way of the one that takes its place.
    """
    with Signals().watched() as signals:
        child = start(command, Path(os.devnull), on_death=signal.SIGKILL, errors=True)
        handed_on = 0
        while (code := child.poll()) is None:
            if signals.times > handed_on:
                child.terminate()
                handed_on = signals.times
            time.sleep(TICK)
    if signals.number:
        raise SystemExit(128 + signals.number)
    return code


def _die_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    prctl = ctypes.CDLL(
        None
    ).prctl  # looked up before the fork: as little as possible may run between fork and exec

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent died in between
            os.kill(os.getpid(), number)

    return request_signal


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and the processes that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if GROUP:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


class Signals:
    """The signal that asked this process to end, if any, and how many such signals came."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.times = 0

    @contextmanager
    def watched(self) -> Iterator[Signals]:
        """Record Ctrl-C and SIGTERM inside the context instead of ending."""
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
