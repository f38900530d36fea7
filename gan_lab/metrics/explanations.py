"""Find the explanation of a score or of a training curve by its name.

The explanations of scores are in the modules of the metrics. They are read from the source, because
lists and comparisons of runs would otherwise import torch and Lightning for a few texts, and a
report of someone else's run would run code that its config names.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """An explanation of a score for readers who do not know it.

    Attributes:
        title: Its name in words.
        meaning: One sentence without a final period.
        higher_is_better: Its direction; None: neither.
        typical_range: Its possible values, and those of good models.
    """

    title: str
    meaning: str
    higher_is_better: bool | None
    typical_range: str

    @property
    def direction(self) -> str:
        """Return "higher is better", "lower is better" or an empty text."""
        if self.higher_is_better is None:
            return ""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"


# columns of metrics.csv that no metric computes
TRAINING_CURVES = {
    "loss_d": Explanation(
        "Discriminator loss", "Loss that the discriminator minimizes", None, "depends on the loss"
    ),
    "loss_g": Explanation(
        "Generator loss", "Loss that the generator minimizes", None, "depends on the loss"
    ),
    "d_real": Explanation(
        "Output on real images", "Mean output of the discriminator for real images", None, "any"
    ),
    "d_fake": Explanation(
        "Output on generated images", "Mean output for generated images", None, "any"
    ),
    "gradient_*": Explanation(
        "Gradient norm", "Length of a network's gradient", None, "0 or more; growing if it diverges"
    ),
    "ema_distance": Explanation(
        "EMA distance",
        "Distance between EMA weights and raw weights, relative to the length of the raw weights",
        None,
        "0 or more; large while weights change quickly",
    ),
    "diversity": Explanation(
        "Diversity",
        "Mean feature distance between two generated images, relative to that of real images",
        None,
        "1: as diverse as the data; near 0: all images are the same",
    ),
}


@cache
def list_explanations() -> dict[str, Explanation]:
    """List the explanations of all built-in scores by name or pattern."""
    modules = map(_read_explanations, sorted(Path(__file__).parent.glob("*.py"), reverse=True))
    found: dict[str, Explanation] = {}
    for _, explanations in sorted(modules, key=lambda module: module[0]):
        found |= explanations
    return found


def _read_explanations(path: Path) -> tuple[float, dict[str, Explanation]]:
    """Read ``priority`` and the explanations of a module and its classes; they must be literals."""
    source = path.read_text(encoding="utf-8")
    priority = math.inf
    found: dict[str, Explanation] = {}
    if "Explanation(" not in source:
        return priority, found
    statements = ast.parse(source).body
    classes = [each for each in statements if isinstance(each, ast.ClassDef)]
    for statement in (*statements, *(line for each in classes for line in each.body)):
        match statement:
            case ast.Assign(
                targets=[ast.Name(id="priority")], value=ast.Constant(value=int(number))
            ):
                priority = number
            case (
                ast.AnnAssign(target=ast.Name(id="explanations"), value=ast.Dict() as texts)
                | ast.Assign(targets=[ast.Name(id="explanations")], value=ast.Dict() as texts)
                | ast.Assign(targets=[ast.Name(id="EXPLANATIONS")], value=ast.Dict() as texts)
            ):
                for name, call in zip(texts.keys, texts.values, strict=True):
                    assert name is not None
                    assert isinstance(call, ast.Call)
                    named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
                    found[ast.literal_eval(name)] = Explanation(
                        *map(ast.literal_eval, call.args), **named
                    )
    return priority, found


def list_included(values: Mapping[str, Any]) -> dict[str, Explanation]:
    """List the explanations of a user's metrics, which ``metrics.include`` of a run names.

    A module that is not found, or whose explanations are not literals, has none.

    Args:
        values: The recorded config of the run as a flat mapping.
    """
    names = values.get("metrics.include")
    found: dict[str, Explanation] = {}
    for name in names if isinstance(names, list | tuple) else []:
        parts = str(name).split(".")
        path = _find_source(parts) if all(part.isidentifier() for part in parts) else None
        if path is not None:
            with suppress(OSError, SyntaxError, ValueError, TypeError, AssertionError):
                found |= _read_explanations(path)[1]
    return found


def _find_source(parts: Sequence[str]) -> Path | None:
    """Find the file of a module in the current folder or on the import path."""
    for folder in (Path(), *map(Path, sys.path)):
        path = folder.joinpath(*parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def explain(name: str, included: Mapping[str, Explanation] | None = None) -> Explanation | None:
    """Find the explanation of a score or training curve; None if it has none.

    Args:
        name: Its name.
        included: The explanations of a user's metrics, as ``list_included`` returns them.
    """
    known = {**list_explanations(), **TRAINING_CURVES, **(included or {})}
    if name in known:
        return known[name]
    # the longest pattern is the most specific one
    matching = [pattern for pattern in known if fnmatchcase(name, pattern)]
    return known[max(matching, key=len)] if matching else None
