"""Choose how long OpenMP's threads busy-wait for one another, by the load of the machine.

libgomp, the OpenMP of torch on Linux, reads the count once, when it is loaded. The number of
threads does not follow the load: it would change the rounding of sums, and so the weights.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

# Values of GOMP_SPINCOUNT: iterations that a thread busy-waits before it sleeps. On busy cores the
# wait takes the time of the thread that is waited for. The default of libgomp is 30 times as high
# as the first: faster for tiny networks on an idle machine (``make bench-threads``), but costly
# once other work begins.
IDLE_SPIN_COUNT = 10_000
BUSY_SPIN_COUNT = 0
LOAD = Path("/proc/loadavg")
SAMPLES = 3
INTERVAL_S = 0.01


def choose_spin_count() -> int:
    """Choose the spin count for the threads of this process.

    The machine is busy if all of several samples find fewer idle cores than this process has
    threads. Where the load is unknown, it counts as idle.
    """
    threads = count_threads()
    for sample in range(SAMPLES):
        if sample:
            time.sleep(INTERVAL_S)
        if count_idle_cores() >= threads:
            return IDLE_SPIN_COUNT
    return BUSY_SPIN_COUNT


def count_threads() -> int:
    """Return the number of OpenMP threads that this process will have."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal():
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_idle_cores() -> int:
    """Return the number of the machine's cores that no other thread uses at this moment."""
    cores = os.cpu_count() or 1
    try:
        running, _, _ = LOAD.read_text(encoding="utf-8").split()[3].partition("/")
    except OSError:
        return cores
    # this process is running, too
    return cores - max(0, int(running) - 1)
