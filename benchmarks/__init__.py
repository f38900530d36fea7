"""Measurements of time, each a ratio within rounds of one run."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence


def asked(
    about: str | None, experiments: Sequence[str], rounds: int
) -> tuple[list[str], list[str], int]:
    """What the command line asks for: experiments (these by default), key=value overrides, and rounds."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    named = " ".join(experiments)
    parser.add_argument(
        "words", nargs="*", help=f"experiments (default: {named}) and key=value overrides"
    )
    arguments = parser.parse_args()
    words = [word for word in arguments.words if "=" in word]
    return (
        [word for word in arguments.words if "=" not in word] or list(experiments),
        words,
        arguments.rounds,
    )


def told(ratios: Sequence[float]) -> str:
    """The median of the rounds' ratios, and between which they lie."""
    return f"{statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})"
