"""Time of the quick edition of every study, run anew, which may be twenty minutes on two idle cores: `make bench-book`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

LIMIT = 20  # minutes
WORKERS = 2


def main() -> None:
    """Run it, and print the minutes; exit code 1 if a study fails, or if it takes longer than may be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        asked = ["all", "--budget", "quick", "--workers", str(WORKERS), "--root", root]
        code = subprocess.run([sys.executable, "-m", "gan_lab", "study", *asked]).returncode
    minutes = (time.monotonic() - began) / 60
    print(f"the quick edition of all studies: {minutes:.1f} minutes; it may be {LIMIT}")
    sys.exit(1 if code or minutes > LIMIT else 0)


if __name__ == "__main__":
    main()
