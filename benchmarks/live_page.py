"""Measure the overhead of grids and pages during training, in CPU seconds (make bench-live).

Each round trains twice, in a new process each: with the defaults, and with grids only at
evaluations and no page before the end, as ``log.live_page=false`` and a large
``log.grid_every_images`` do. Both run at the same time with one thread each, so that other programs
and the speed of the processor affect both. Both end with the same page; the final scores are
omitted. ``--out`` writes the results as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import check_out, format_ratios, split_arguments

ROUNDS = 3
# without tracker and console, which cost the same in both
QUIET = ("log.wandb=off", "log.progress_bar=false")
WITHOUT = ("log.live_page=false", "log.grid_every_images=1_000_000_000")
# not fork, because the children must not inherit the torch threads of this process
CONTEXT: Any = multiprocessing.get_context("spawn")


def train(name: str, overrides: list[str], results: Any) -> None:
    """Train in this process; put CPU seconds, and the numbers of grids and pages, into a queue."""
    import torch

    from gan_lab import report
    from gan_lab.config import loading
    from gan_lab.runs.run_folder import RunFolder
    from gan_lab.training import loop

    torch.set_num_threads(1)
    pages = 0
    write_live = report.write_live

    def count(*arguments: Any) -> Path:
        nonlocal pages
        pages += 1
        return write_live(*arguments)

    report.write_live = count
    loop.evaluate_all = lambda *_: None
    with tempfile.TemporaryDirectory() as root:
        overrides = [*overrides, f"run.root={root}"]
        loaded = loading.load(name, overrides)
        loop.train(loaded, overrides)
        grids = len([*(RunFolder.of(loaded).path / "samples").glob("*.png")])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    results.put({"cpu_s": usage.ru_utime + usage.ru_stime, "grids": grids, "pages": pages})


def measure_pair(name: str, overrides: list[str]) -> dict[str, dict[str, float]]:
    """Train with and without grids and pages at once; return what each used and wrote."""
    queues = {}
    processes = []
    for kind, extra in {"with": (), "without": WITHOUT}.items():
        queues[kind] = CONTEXT.Queue()
        arguments = (name, [*QUIET, *overrides, *extra], queues[kind])
        processes.append(CONTEXT.Process(target=train, args=arguments))
        processes[-1].start()
    pair = {kind: queue.get() for kind, queue in queues.items()}
    for process in processes:
        process.join()
    return pair


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument(
        "arguments", nargs="*", help="experiments (default: cgan) and key=value overrides"
    )
    options = parser.parse_intermixed_args()
    check_out(parser, options.out)
    names, overrides = split_arguments(options.arguments)
    found: dict[str, Any] = {}
    for name in names or ["cgan"]:
        rounds = []
        for number in range(1, options.rounds + 1):
            pair = measure_pair(name, overrides)
            rounds.append(pair)
            print(
                f"{name} {number}: {pair['with']['cpu_s']:.1f} CPU seconds with "
                f"{pair['with']['grids']:.0f} grids and {pair['with']['pages']:.0f} pages, "
                f"{pair['without']['cpu_s']:.1f} without",
                flush=True,
            )
        ratios = [pair["with"]["cpu_s"] / pair["without"]["cpu_s"] for pair in rounds]
        print(f"{name}: with / without = {format_ratios(ratios)}", flush=True)
        found[name] = {
            "overrides": overrides,
            "ratio": round(statistics.median(ratios), 4),
            "rounds": rounds,
        }
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
