"""The result of a check."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "FAIL"]
GB = 1e9
HOST_TIMEOUT_S = 3.0
REINSTALL_ADVICE = "run make clean setup to install the versions of requirements.lock"


class Finding(NamedTuple):
    """The result of a check, with the remedy if there is a problem."""

    level: Level
    text: str
    remedy: str = ""
