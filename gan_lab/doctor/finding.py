"""What a check says."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "FAIL"]
GB = 1e9
SECONDS = 3.0  # for each answer of another machine
REINSTALL = "make clean setup installs the versions of requirements.lock"


class Finding(NamedTuple):
    """What a check found, and the remedy if that is not as it should be."""

    level: Level
    text: str
    remedy: str = ""
