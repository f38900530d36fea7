"""Measurements of time, each a ratio within rounds of one run."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence


def asked(
    about: str | None, experiments: Sequence[str], rounds: int
) -> tuple[list[str], list[str], int]:
    """Parse the command line.

    Returns:
        The experiments (these by default), the key=value overrides, and the number of rounds.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    named = " ".join(experiments)
    about_words = f"experiments (default: {named}) and key=value overrides"
    parser.add_argument("words", nargs="*", help=about_words)
    # parse_args would reject overrides that follow an option, as in: cgan --rounds 3 data.source=sample
    arguments = parser.parse_intermixed_args()
    words = [word for word in arguments.words if "=" in word]
    return (
        [word for word in arguments.words if "=" not in word] or list(experiments),
        words,
        arguments.rounds,
    )


def told(ratios: Sequence[float]) -> str:
    """The median of the rounds' ratios, and between which they lie."""
    return f"{statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})"
