"""Measures of studies: one file each, found by its name, with ``measure``.

``measure(arm)`` returns numbers by their names; lists are curves for the figure. A file that draws more than a point for
each seed has ``draw(figure, results)`` too, on a figure of matplotlib's.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_lab.config.extensions import find_extension
from gan_lab.utils.errors import UserError

Values = dict[str, Any]  # numbers, and lists that are curves
Results = dict[str, list[Values]]  # of each arm, one for each seed


@dataclass(frozen=True)
class Arm:
    """One arm of a study with one seed: the input of a measure."""

    name: str
    words: list[str]  # of the arm, then of the budget
    seed: int
    train: Callable[
        [list[str]], Path
    ]  # the command line of a training; returns its folder when it has ended

    def own(self, *keys: str) -> tuple[dict[str, str], list[str]]:
        """Split the arguments into those of the measure, by their keys, and those of the training."""
        mine = [word for word in self.words if word.partition("=")[0] in keys]
        return _parse_pairs(mine), [word for word in self.words if word not in mine]

    def text(self, key: str) -> str:
        """Return the value of the argument ``key=value``. Raises UserError if the arm does not have it."""
        pairs = _parse_pairs(self.words)
        if key not in pairs:
            raise UserError(f"arm {self.name}: {key}= is missing. Set it in the study's file")
        return pairs[key]

    def number(self, key: str, default: float | None = None) -> float:
        """Return the value of the argument ``key=value``. Raises UserError if it is no number."""
        pairs = _parse_pairs(self.words)
        if key not in pairs and default is not None:
            return default
        text = self.text(key)
        try:
            return float(text)
        except ValueError:
            raise UserError(
                f"arm {self.name}: {key}={text}. Set a number in the study's file"
            ) from None


def _parse_pairs(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def names() -> list[str]:
    """Every measure of the lab."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """The module of a measure. Raises ValueError for an unknown one."""
    module: ModuleType = find_extension("studies.measures", "measure", name, names(), "measure")
    return module
