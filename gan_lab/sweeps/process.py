"""Processes that never outlive this one: each in a group of its own, ended with it even if it is killed with SIGKILL."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
GROUP: dict[str, Any] = {"process_group": 0} if hasattr(os, "killpg") else {}  # Windows has none


def start(
    command: Sequence[str], log: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command whose output is appended to a file. Raises ValueError if there is no such program."""
    before = _ended_with(os.getpid()) if sys.platform == "linux" else None
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if log else None,
            env=None if environment is None else dict(environment), preexec_fn=before, **GROUP,
        )  # fmt: skip
    except FileNotFoundError:
        raise ValueError(f"command: there is no program {command[0]}") from None
    finally:
        if output:
            output.close()


def _ended_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec as little as possible is done

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and of those that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if GROUP:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


class Signals:
    """The signal that asked this process to end, if one did, and how often it was asked."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.times = 0

    @contextmanager
    def watched(self) -> Iterator[Signals]:
        """Note Ctrl-C and SIGTERM inside the context, instead of ending."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.number, self.times = number, self.times + 1
