"""Time measurements. Each result is a ratio of two times within a round of one run."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence


def parse_arguments(
    description: str | None, experiments: Sequence[str], rounds: int
) -> tuple[list[str], list[str], int]:
    """Parse the command line.

    Args:
        description: The docstring of the benchmark.
        experiments: The default experiments.
        rounds: The default number of rounds.

    Returns:
        The experiments, the key=value overrides, and the number of rounds.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "arguments",
        nargs="*",
        help=f"experiments (default: {' '.join(experiments)}) and key=value overrides",
    )
    # parse_args would reject overrides after an option, as in: cgan --rounds 3 data.source=sample
    options = parser.parse_intermixed_args()
    names, overrides = split_arguments(options.arguments)
    return names or list(experiments), overrides, options.rounds


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into experiments and key=value overrides."""
    names = [argument for argument in arguments if "=" not in argument]
    return names, [argument for argument in arguments if "=" in argument]


def format_ratios(ratios: Sequence[float]) -> str:
    """Format the median and the range of the ratios of all rounds."""
    return (
        f"{statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to "
        f"{max(ratios):.3f})"
    )
