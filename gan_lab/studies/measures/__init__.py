"""Measures of studies: one file each with ``measure``, discovered by its name.

``measure(arm)`` returns numbers by their names; lists are curves for the figure. For a figure other
than one point per seed, a file also has ``draw(figure, results)`` for a matplotlib figure.
``ARGUMENTS`` names arguments of an arm that are the measure's own and not config keys.
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

# Numbers by name, and curves as lists of numbers.
Values = dict[str, Any]
# The values of each arm, one entry per seed.
Results = dict[str, list[Values]]


@dataclass(frozen=True)
class Arm:
    """One arm of a study with one seed: the input of a measure.

    Attributes:
        name: Name of the arm.
        arguments: Arguments of the arm, followed by those of the budget.
        seed: Random seed.
        train: Trains with an experiment and overrides; returns the run folder.
    """

    name: str
    arguments: list[str]
    seed: int
    train: Callable[[list[str]], Path]

    def split_arguments(self, *keys: str) -> tuple[dict[str, str], list[str]]:
        """Split the arguments into those of the measure, with these keys, and the rest."""
        selected = [each for each in self.arguments if each.partition("=")[0] in keys]
        return _parse_pairs(selected), [each for each in self.arguments if each not in selected]

    def text(self, key: str) -> str:
        """Return the value of the argument ``key=value``. Raises UserError if it is missing."""
        pairs = _parse_pairs(self.arguments)
        if key not in pairs:
            raise UserError(f"arm {self.name}: {key}= is missing. Set it in the study's file")
        return pairs[key]

    def number(self, key: str, default: float | None = None) -> float:
        """Return the number in the argument ``key=value``. Raises UserError for other text."""
        pairs = _parse_pairs(self.arguments)
        if key not in pairs and default is not None:
            return default
        text = self.text(key)
        try:
            return float(text)
        except ValueError:
            raise UserError(
                f"arm {self.name}: {key}={text}. Set a number in the study's file"
            ) from None


def _parse_pairs(arguments: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        pairs[key] = value
    return pairs


def names() -> list[str]:
    """List every built-in measure."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def check_name(name: str) -> None:
    """Check that a measure exists, without importing a built-in one, which may need torch.

    Raises:
        UserError: It does not.
    """
    if name not in names():
        find(name)


def find(name: str) -> ModuleType:
    """Return the module of a measure. Raises UserError for an unknown one."""
    module: ModuleType = find_extension("studies.measures", "measure", name, names(), "measure")
    return module
