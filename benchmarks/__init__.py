"""Time measurements. Each result is a ratio of two times within a round of one run."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """The command line of a benchmark of ratios.

    Attributes:
        experiments: The experiments.
        overrides: The key=value overrides.
        rounds: The number of rounds.
        out: JSON file to which the ratios of all rounds are added, by what they compare.
    """

    experiments: list[str]
    overrides: list[str]
    rounds: int
    out: Path | None


def parse_arguments(description: str | None, experiments: Sequence[str], rounds: int) -> Options:
    """Parse the command line.

    Args:
        description: The docstring of the benchmark.
        experiments: The default experiments.
        rounds: The default number of rounds.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file to which the ratios are added; those of the same name are replaced",
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        help=f"experiments (default: {' '.join(experiments)}) and key=value overrides",
    )
    # parse_args would reject overrides after an option, as in: cgan --rounds 3 data.source=sample
    options = parser.parse_intermixed_args()
    check_out(parser, options.out)
    names, overrides = split_arguments(options.arguments)
    return Options(names or list(experiments), overrides, options.rounds, options.out)


def check_out(parser: argparse.ArgumentParser, out: Path | None) -> None:
    """Exit with a message, before anything is measured, if a file cannot be written there."""
    if out is not None and not out.parent.is_dir():
        parser.error(f"--out {out}: there is no folder {out.parent}. Create it or choose another")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into experiments and key=value overrides."""
    names = [argument for argument in arguments if "=" not in argument]
    return names, [argument for argument in arguments if "=" in argument]


def report_ratios(
    compared: str, experiment: str, options: Options, ratios: Sequence[float], more: str = ""
) -> None:
    """Print the ratios of all rounds, and add them to the JSON file if one is named.

    Args:
        compared: What the ratio compares, such as "lab / plain".
        experiment: The experiment.
        options: The command line.
        ratios: The ratio of each round.
        more: Text after the ratios.
    """
    print(f"{experiment}: {compared} = {format_ratios(ratios)}{more}")
    if options.out is not None:
        name = " ".join([experiment, *options.overrides])
        recorded = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
        recorded[f"{name}: {compared}"] = [round(ratio, 4) for ratio in ratios]
        options.out.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def format_ratios(ratios: Sequence[float]) -> str:
    """Format the median and the range of the ratios of all rounds."""
    return (
        f"{statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to "
        f"{max(ratios):.3f})"
    )
