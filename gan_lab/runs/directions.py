"""Latent directions of a generator, and the file that stores them.

A file is not trusted: it is plain JSON of limited size, and its numbers are checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.utils.errors import UserError, first_line

# hexadecimal digits that identify a direction in the record of an image
DIGEST_LENGTH = 16
# in run folders and exports
FILE_NAME = "directions.json"
FORMAT = "gan-lab directions 1"
MAX_FILE_BYTES = 50_000_000
MAX_NAME_CHARACTERS = 200
LATENT_SPACES = ("z", "w")


@dataclass(frozen=True)
class Direction:
    """A direction in the latent space.

    Attributes:
        name: Its name, such as pc1 or ``class 7``.
        vector: Its coordinates [D], a vector of length 1.
        std: Standard deviation of the latents along it, the length of one step.
        explained_variance: Of a principal component, its share of the variance of W or of the first
            layer; else None.
        accuracy: Of a class, the balanced accuracy of logistic regression on other latents, 0.5
            without any relation; else None.
    """

    name: str
    vector: list[float]
    std: float
    explained_variance: float | None = None
    accuracy: float | None = None

    def compute_digest(self) -> str:
        """Hash what a move depends on: the coordinates and the length of a step."""
        content = json.dumps([self.std, self.vector])
        return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]


@dataclass(frozen=True)
class Directions:
    """Directions of one generator.

    Attributes:
        space: z, or w of StyleGAN2.
        directions: The directions.
        source: The record of the generator (run, weights, iteration, digest) and the arguments of
            the search.
    """

    space: str
    directions: list[Direction]
    source: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The names of the directions."""
        return [each.name for each in self.directions]

    def compute_shift(self, move: Mapping[str, float]) -> Tensor:
        """Sum directions to a shift of latents [D], float64.

        Args:
            move: Steps by the name of the direction, in standard deviations of the latents.

        Raises:
            UserError: There is no such direction, or a step is NaN or Inf.
        """
        by_name = {each.name: each for each in self.directions}
        shift = torch.zeros(len(self.directions[0].vector), dtype=torch.float64)
        for name, steps in move.items():
            if name not in by_name:
                raise UserError(explain_unknown_name("direction", name, self.names))
            if not math.isfinite(steps):
                raise UserError(f"Invalid step along {name}: {steps}. Use a number such as 2 or -1")
            direction = by_name[name]
            shift += steps * direction.std * torch.tensor(direction.vector, dtype=torch.float64)
        return shift

    def compute_digests(self, names: Iterable[str]) -> dict[str, str]:
        """Hash each direction with one of these names, for the record of an image."""
        chosen = {*names}
        return {each.name: each.compute_digest() for each in self.directions if each.name in chosen}

    def save(self, path: Path) -> None:
        """Write a JSON file, which ``read_directions`` reads."""
        content = {"format": FORMAT, **asdict(self)}
        path.write_text(json.dumps(content), encoding="utf-8")


def read_directions(path: Path) -> Directions:
    """Read directions from a file.

    Raises:
        UserError: The file is missing, too large, damaged or of another format.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"it has more than {MAX_FILE_BYTES:,} bytes")
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{path} is not a usable file of directions: {reason}. Write one with `gan-lab "
            "directions RUN`"
        ) from None


def describe(direction: Direction) -> str:
    """Describe a direction in a few words, with the explained variance: ``pc1 (24%)``."""
    share = direction.explained_variance
    return direction.name if share is None else f"{direction.name} ({share:.0%})"


def find_stored_directions(folder: Path | None) -> Path | None:
    """Find the directions that ``gan-lab directions`` has stored in a run folder or an export."""
    stored = folder / FILE_NAME if folder else None
    return stored if stored and stored.is_file() else None


def _parse(content: Any) -> Directions:
    """Build directions from JSON; every error is one of a damaged file."""
    if content["format"] != FORMAT:
        raise UserError(f"its format is not {FORMAT!r}")
    if content["space"] not in LATENT_SPACES:
        raise UserError(f"its space is {content['space']!r}")
    directions = []
    for each in content["directions"]:
        direction = Direction(
            str(each["name"]),
            [float(number) for number in each["vector"]],
            float(each["std"]),
            *(
                None if each.get(key) is None else float(each[key])
                for key in ("explained_variance", "accuracy")
            ),
        )
        # names are printed, and written into model cards
        if not direction.name.isprintable() or len(direction.name) > MAX_NAME_CHARACTERS:
            raise UserError("a name has more than one line, or is too long")
        length = math.sqrt(sum(number**2 for number in direction.vector))
        if not (math.isclose(length, 1, rel_tol=1e-3) and 0 <= direction.std < math.inf):
            raise UserError(f"{direction.name} is no direction of length 1")
        directions.append(direction)
    sizes = {len(each.vector) for each in directions}
    if len(sizes) != 1 or len({each.name for each in directions}) != len(directions):
        raise UserError("its directions have different sizes, equal names, or there are none")
    return Directions(content["space"], directions, dict(content["source"]))
