"""Measure the time of all studies with the quick budget (make bench-book).

The limit is 20 minutes on two idle cores. On busy ones, compare the CPU time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time

MAX_MINUTES = 20
WORKERS = 2


def main() -> None:
    """Run the studies and print the minutes; exit with 1 if one fails or the limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", nargs="?", default="all", help="default: all")
    parser.add_argument("--workers", type=int, default=WORKERS)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "gan_lab", "study", arguments.study, "--budget", "quick"]
        options = ["--workers", str(arguments.workers), "--root", root]
        code = subprocess.run([*command, *options]).returncode
    minutes = (time.monotonic() - began) / 60
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_minutes = (used.ru_utime + used.ru_stime) / 60
    print(
        f"study {arguments.study}, quick budget: {minutes:.1f} minutes (limit: {MAX_MINUTES}), "
        f"{cpu_minutes:.1f} CPU minutes"
    )
    sys.exit(1 if code or minutes > MAX_MINUTES else 0)


if __name__ == "__main__":
    main()
