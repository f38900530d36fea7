"""Run the checks and print their table. The exit code is 1 if a threshold is not met.

Without a GPU nothing runs, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import lightning
import torch

from benchmarks import check_out
from benchmarks.gpu import Row, Rows, Setting, find_experiments
from benchmarks.gpu.equality import (
    check_bf16,
    check_devices,
    check_graphs,
    check_resume,
    check_sampling,
)
from benchmarks.gpu.program import check_memory, check_several_processes, check_training
from benchmarks.gpu.speed import check_evaluation, check_settings, check_throughput
from gan_lab.config import extensions, loading

CHECKS: dict[str, Callable[[Setting], Rows]] = {
    "devices": check_devices,
    "sampling": check_sampling,
    "memory": check_memory,
    "resume": check_resume,
    "graphs": check_graphs,
    "bf16": check_bf16,
    "throughput": check_throughput,
    "settings": check_settings,
    "evaluation": check_evaluation,
    "training": check_training,
    "several": check_several_processes,
}


def describe_machine() -> Rows:
    """Describe the versions, the GPU and the settings."""
    yield Row(
        "versions",
        f"torch {torch.__version__}, lightning {lightning.__version__}, "
        f"Python {sys.version.split()[0]}",
    )
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        card = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        yield Row("GPU", f"{torch.cuda.device_count()} x {card}, CUDA {torch.version.cuda}")
        flags = torch.backends.cudnn
        yield Row(
            "settings",
            f"TF32 in convolutions {flags.allow_tf32}, in matrix products "
            f"{torch.backends.cuda.matmul.allow_tf32}, cudnn {flags.version()}, benchmark "
            f"{flags.benchmark}, deterministic {flags.deterministic}",
        )


def main() -> int:
    """Run the checks of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checks",
        nargs="*",
        default=list(CHECKS),
        help=f"some of {', '.join(CHECKS)} (default: all)",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="run a few iterations of each check on the CPU, to test the script",
    )
    parser.add_argument(
        "--family",
        action="append",
        choices=list(loading.families()),
        help="a family for the checks of families, repeatable (default: all)",
    )
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    options = parser.parse_args()
    check_out(parser, options.out)
    unknown = set(options.checks) - set(CHECKS)
    if unknown:
        parser.error(extensions.explain_unknown_name("check", unknown.pop(), list(CHECKS)))
    if not torch.cuda.is_available() and not options.rehearse:
        print("gpu-check: not run, because torch finds no GPU. `make doctor` explains why.")
        return 0
    experiments = find_experiments()
    chosen = {family: experiments[family] for family in options.family or experiments}
    print("| name | value | threshold | |\n|---|---|---|---|")
    rows: list[Row] = []

    def record(row: Row) -> None:
        print(row, flush=True)
        rows.append(row)
        if options.out is not None:
            # after each row, since the machine may be taken away
            write_rows(options.out, rows)

    with tempfile.TemporaryDirectory() as folder:
        for name, check in {
            "machine": lambda _: describe_machine(),
            **{name: CHECKS[name] for name in options.checks},
        }.items():
            started = time.perf_counter()
            try:
                for row in check(Setting(Path(folder) / name, options.rehearse, chosen)):
                    record(row)
            except Exception as error:
                traceback.print_exc()
                failure = f"failed: {type(error).__name__}: {error}".splitlines()[0][:200]
                record(Row(name, failure, "runs", met=False))
            record(Row(f"{name} took", f"{time.perf_counter() - started:.0f} s"))
    return 0 if all(row.met for row in rows) else 1


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
