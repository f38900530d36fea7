"""Black and white levels of images with more than 8 bits: one scale for all files of a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_lab.data.image_files import run_in_threads
from gan_lab.data.image_reader import ImageFacts, Levels, infer_levels, inspect_image
from gan_lab.utils.errors import UserError

# The kinds of images with more than 8 bits, in the order of ``Levels`` and ``ImageFacts.depth``.
LEVEL_KINDS = ("integer", "float")
CONVERT_THEM = "Scale the values of all images to [0, 1], or save them with 8 bits"


def inspect_files(files: Sequence[str | Path]) -> np.ndarray:
    """Return the ``ImageFacts`` of each file [N, 6]; zeros for unreadable files."""
    facts = np.zeros((len(files), len(ImageFacts.__annotations__)))

    def inspect(row: int) -> None:
        facts[row] = inspect_image(files[row])

    run_in_threads(inspect, len(files), f"inspecting {len(files):,} images")
    return facts


def find_rows(facts: np.ndarray, kind: str) -> np.ndarray:
    """Return the indices of the images of a kind."""
    return np.flatnonzero(facts[:, 3] == 1 + LEVEL_KINDS.index(kind))


def choose_levels(
    configured: Levels | None, facts: np.ndarray, subject: str, remedy: str
) -> tuple[Levels | None, dict[str, bool]]:
    """Return the levels of a set: those configured, and for other kinds those inferred.

    Args:
        configured: The levels that the user or a run has set.
        facts: See ``inspect_files``.
        subject: The set, for errors.
        remedy: What to do about an ambiguous range, for errors.

    Returns:
        The levels, None if no image has more than 8 bits; and for each kind of the set whether its
        levels are those that the files alone imply.

    Raises:
        UserError: The range of the values is ambiguous.
    """
    configured = configured or Levels()
    chosen: list[float] = []
    is_inferred: dict[str, bool] = {}
    for kind, pair in zip(LEVEL_KINDS, (configured[:2], configured[2:]), strict=True):
        rows = find_rows(facts, kind)
        if not len(rows):
            chosen += (0.0, 0.0)
            continue
        is_configured = pair[0] < pair[1]
        try:
            lowest, highest = float(facts[rows, 4].min()), float(facts[rows, 5].max())
            inferred: tuple[float, ...] = infer_levels(lowest, highest)
        except UserError as error:
            if not is_configured:
                raise UserError(
                    f"{subject}: {len(rows):,} {kind} images have {error}. {remedy}."
                ) from None
            inferred = ()
        levels = pair if is_configured else inferred
        is_inferred[kind] = levels == inferred
        chosen += levels
    return (Levels(*chosen) if any(chosen) else None), is_inferred


def complete_levels(
    configured: Sequence[float], source: Path, paths: Sequence[Path]
) -> Levels | None:
    """Return the levels of a run, and infer those it does not have from all files together.

    Args:
        configured: The levels of the run.
        source: The folder of the files, for errors.
        paths: The files.

    Raises:
        UserError: The range of the values is ambiguous.
    """
    levels = Levels.parse(configured) or Levels()
    if levels.integer_white > levels.integer_black and levels.float_white > levels.float_black:
        return levels
    return choose_levels(levels, inspect_files(paths), str(source), CONVERT_THEM)[0]
