"""Measures of studies: one file each, found by its name, with ``measure``.

``measure(arm)`` returns numbers by their names; lists are curves for the figure. A file that draws more than a point for
each seed has ``draw(figure, results)`` too, on a figure of matplotlib's.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_lab.config.extensions import find_extension

Values = dict[str, Any]  # numbers, and lists that are curves
Results = dict[str, list[Values]]  # of each arm, one for each seed


@dataclass(frozen=True)
class Arm:
    """One arm of a study with one seed: what a measure is told."""

    name: str
    words: list[str]  # of the arm, then of the budget
    seed: int
    train: Callable[[list[str]], Path]  # the command line of a training; returns its folder when it has ended

    def own(self, *keys: str) -> tuple[dict[str, str], list[str]]:
        """The words key=value that are the measure's own, as a dictionary; and the others, which are of the training."""
        mine = [word for word in self.words if word.partition("=")[0] in keys]
        return dict(word.split("=", 1) for word in mine), [word for word in self.words if word not in mine]


def names() -> list[str]:
    """Every measure of the lab."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """The module of a measure. Raises ValueError for an unknown one."""
    module: ModuleType = find_extension("studies.measures", "measure", name, names(), "measure")
    return module
