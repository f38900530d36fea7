"""Run the checks and print their table; exit code 1 if a bar is not met, 0 without a GPU."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import lightning
import torch

from benchmarks.gpu import Row, Rows, Setting, families
from benchmarks.gpu.equality import bf16, devices, resume, sampling
from benchmarks.gpu.program import memory, several, training
from benchmarks.gpu.speed import evaluation, settings, throughputs
from gan_lab.config import extensions, loading

CHECKS: dict[str, Callable[[Setting], Rows]] = {
    "devices": devices,
    "sampling": sampling,
    "memory": memory,
    "resume": resume,
    "bf16": bf16,
    "throughput": throughputs,
    "settings": settings,
    "evaluation": evaluation,
    "training": training,
    "several": several,
}


def machine() -> Rows:
    """What was measured on."""
    yield Row(
        "versions",
        f"torch {torch.__version__}, lightning {lightning.__version__}, Python {sys.version.split()[0]}",
    )
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        card = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        yield Row("card", f"{card}, {torch.cuda.device_count()} of them, CUDA {torch.version.cuda}")
        flags = torch.backends.cudnn
        yield Row(
            "settings",
            f"TF32 in convolutions {flags.allow_tf32}, in products {torch.backends.cuda.matmul.allow_tf32}, "
            f"cudnn {flags.version()}, benchmark {flags.benchmark}, deterministic {flags.deterministic}",
        )


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checks",
        nargs="*",
        default=list(CHECKS),
        help=f"which of {', '.join(CHECKS)}; all by default",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="some iterations of each on the CPU: does it run at all",
    )
    parser.add_argument(
        "--family",
        action="append",
        choices=list(loading.families()),
        help="a family for the checks of families, repeatable; all by default",
    )
    asked = parser.parse_args()
    if unknown := set(asked.checks) - set(CHECKS):
        parser.error(extensions.explain_unknown_name("check", unknown.pop(), list(CHECKS)))
    if not torch.cuda.is_available() and not asked.rehearse:
        print("gpu-check: not run, for torch sees no GPU here (`make doctor` says why)")
        return 0
    chosen = {family: families()[family] for family in asked.family or families()}
    met = True
    print("| what | figure | bar | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, check in {
            "machine": lambda _: machine(),
            **{name: CHECKS[name] for name in asked.checks},
        }.items():
            begun = time.perf_counter()
            try:
                for row in check(Setting(Path(folder) / name, asked.rehearse, chosen)):
                    print(row, flush=True)
                    met &= row.met
            except Exception as error:
                traceback.print_exc()
                print(
                    Row(
                        name,
                        f"failed: {type(error).__name__}: {error}".splitlines()[0][:200],
                        "runs",
                        met=False,
                    ),
                    flush=True,
                )
                met = False
            print(f"| {name} took | {time.perf_counter() - begun:.0f} s | | |", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
