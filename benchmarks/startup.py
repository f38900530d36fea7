"""Measure the CPU seconds of each command, and of a training until its first iteration.

Each command runs in a new process, as a user starts it, and the median of the rounds is printed
(``make bench-start``). CPU seconds hardly depend on other programs, wall-clock times do. Programs
that a command starts count if they have ended. The commands read the runs of a tiny training, which
the benchmark trains first, and 100 copies of one for the list and the index. ``--out`` writes the
results as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import check_out

ROUNDS = 3
# below one folder, for the list of runs and their index page
COPIES = 100
ROOT = Path(__file__).parents[1]
TINY = (
    "run.images=256",
    "run.evaluate_every_images=128",
    "metrics.num_fakes=64",
    "metrics.num_reals=64",
    "metrics.inception_weights=off",
    "data.source=sample",
    "log.wandb=off",
)
# ends a training after its first iteration; os._exit skips its end, which is not measured
CALLBACK = """
import os
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""


def run_command(arguments: Sequence[str], folder: Path) -> float:
    """Run ``gan-lab`` in a folder; return the CPU seconds of its process.

    Raises:
        RuntimeError: The command fails.
    """
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "WANDB_MODE": "offline"}
    with (folder / "log.txt").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gan_lab", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"gan-lab {' '.join(arguments)} failed:\n{log.read()}")
    return usage.ru_utime + usage.ru_stime


def list_commands(folder: Path, experiment: str) -> dict[str, list[str]]:
    """Train a run, and return the arguments of the commands by their name in the table."""
    (folder / "stop_first.py").write_text(CALLBACK, encoding="utf-8")
    (folder / "data").mkdir(exist_ok=True)
    run_command(["train", experiment, *TINY, "run.id=tiny"], folder)
    run = f"runs/{experiment}/tiny"
    for i in range(COPIES):
        shutil.copytree(folder / run, folder / "many" / experiment / f"copy{i}")
    first = ["train", experiment, "data.source=sample", "run.callbacks=[stop_first.Stop]"]
    seven = ["sample", "zoo:digits", "--label", "7"]
    return {
        "help": ["--help"],
        "train (list)": ["train"],
        "runs": ["runs"],
        f"runs, {COPIES} runs": ["runs", "many"],
        f"index, {COPIES} runs": ["runs", "many", "--page"],
        "explain": ["explain"],
        "study (list)": ["study"],
        "compare": ["compare", run],
        "report": ["report", run],
        "sample": ["sample", run, "--n", "64", "--out", "samples.png", "--overwrite"],
        "sample zoo:digits": [*seven, "--out", "7.png", "--overwrite"],
        "first iteration, W&B off": [*first, "log.wandb=off", "run.id=without"],
        "first iteration": [*first, "run.id=first"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--experiment", default="cgan")
    parser.add_argument("--only", nargs="*", help="names of commands (default: all)")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    check_out(parser, options.out)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        commands = list_commands(Path(folder), options.experiment)
        for _ in range(options.rounds):
            for name in options.only or commands:
                found.setdefault(name, []).append(run_command(commands[name], Path(folder)))
    for name, seconds in found.items():
        print(
            f"{name:<26}{statistics.median(seconds):6.2f} CPU s  "
            f"({min(seconds):.2f} to {max(seconds):.2f})"
        )
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
