"""Score the generators of digits after equal CPU seconds of training (make bench-quality).

Each experiment trains in a process of its own with one thread. Whenever its training has used a
budget of CPU seconds, its averaged generator is scored; start and scoring do not count. The rows
``script: NAME`` are a usual script instead of the lab: the same networks and the loop of a
tutorial, see throughput.py, whose generator is scored without averaging. ``--out`` writes a JSON
file after each training and skips the trainings that it has.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import check_out, split_arguments

BUDGETS_S = (30, 60, 120, 200)
SEEDS = 1
EXPERIMENTS = (
    *("gan", "dcgan", "lsgan", "wgan", "wgan_gp", "sngan", "r3gan", "cgan", "acgan"),
    *("sgan", "infogan", "vae", "vaegan", "stylegan2"),
)
SCRIPT = "script: "
SCRIPTS = ("dcgan", "cgan")
# never reached: the budget ends the training
IMAGES = 10**8
WORDS = (
    *("log.wandb=off", "log.progress_bar=false", "data.source=sample"),
    *("log.live_page=false", "metrics.extractors=[digits]"),
)
# not fork, because the children must not inherit the torch threads of this process
CONTEXT: Any = multiprocessing.get_context("spawn")

Scores = dict[str, dict[str, float]]


class BudgetClock:
    """Scores whenever the CPU time since its creation reaches a budget.

    Args:
        budgets: CPU seconds, ascending.
        score: Function that scores the generator.
    """

    def __init__(self, budgets: list[float], score: Callable[[], dict[str, float]]) -> None:
        self.budgets = list(budgets)
        self.score = score
        self.scores: Scores = {}
        self.started = time.process_time()

    def tick(self, images: int) -> bool:
        """Score if a budget is used up; return whether all are."""
        before = time.process_time()
        while self.budgets and before - self.started >= self.budgets[0]:
            budget = self.budgets.pop(0)
            self.scores[f"{budget:g}"] = {"images": images, "fd_digits": self.score()["fd_digits"]}
        self.started += time.process_time() - before
        return not self.budgets


def train_experiment(name: str, overrides: list[str], budgets: list[float]) -> Scores:
    """Train an experiment of the lab; return its scores by budget."""
    from lightning.pytorch import Callback

    from benchmarks.throughput import build

    class Stop(Callback):
        """Ends the training after the last budget."""

        def on_train_start(self, *_: Any) -> None:
            self.clock = BudgetClock(budgets, self.score)

        def score(self) -> dict[str, float]:
            with built.ema.applied(built.family):
                return built.evaluation.evaluator(built.family)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if self.clock.tick(built.images):
                trainer.should_stop = True

    stop = Stop()
    with tempfile.TemporaryDirectory() as folder:
        built = build(name, overrides, Path(folder) / name, stop, IMAGES)
        built.trainer.fit(built.family, datamodule=built.data)
    return stop.clock.scores


def train_script(name: str, overrides: list[str], budgets: list[float]) -> Scores:
    """Train the networks of an experiment with the loop of a tutorial; return its scores."""
    from lightning.pytorch import Callback

    from benchmarks.throughput import build, list_tutorial_batches, make_step

    with tempfile.TemporaryDirectory() as folder:
        built = build(name, overrides, Path(folder) / name, Callback(), IMAGES)
        G, step = make_step(built, list_tutorial_batches(built, workers=0))

        def score() -> dict[str, float]:
            built.family.generator.load_state_dict(G.state_dict())
            return built.evaluation.evaluator(built.family)

        clock, images = BudgetClock(budgets, score), 0
        while not clock.tick(images):
            step()
            images += built.config.data.batch_size
    return clock.scores


def train_row(row: str, overrides: list[str], budgets: list[float]) -> Scores:
    """Train a row in this process; return its scores by budget."""
    import torch

    torch.set_num_threads(1)
    train = train_script if row.startswith(SCRIPT) else train_experiment
    return train(row.removeprefix(SCRIPT), [*WORDS, *overrides], budgets)


def measure(row: str, overrides: list[str], budgets: list[float]) -> Scores:
    """Train a row in a new process; return its scores by budget."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        return pool.submit(train_row, row, overrides, budgets).result()


def draw(found: dict[str, dict[str, Scores]]) -> str:
    """Draw the table: the mean of the seeds, and the training images of the last budget."""
    budgets = list(next(iter(next(iter(found.values())).values())))
    columns = [*(f"{budget} s" for budget in budgets), f"images in {budgets[-1]} s"]
    lines = [f"| `fd_digits` after | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row, seeds in found.items():
        cells = []
        for budget in budgets:
            cells.append(f"{statistics.mean(s[budget]['fd_digits'] for s in seeds.values()):.3g}")
        images = statistics.mean(scores[budgets[-1]]["images"] for scores in seeds.values())
        name = row.removeprefix(SCRIPT)
        label = f"tutorial loop, networks of `{name}`" if row.startswith(SCRIPT) else f"`{name}`"
        lines.append(f"| {label} | {' | '.join(cells)} | {images:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure each row and seed, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS_S)), help="CPU seconds")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument(
        "arguments", nargs="*", help="experiments, 'script: NAME', and key=value overrides"
    )
    options = parser.parse_intermixed_args()
    check_out(parser, options.out)
    rows, overrides = split_arguments(options.arguments)
    rows = rows or [*EXPERIMENTS, *(SCRIPT + name for name in SCRIPTS)]
    budgets = [float(budget) for budget in options.budgets.split(",")]
    found: dict[str, dict[str, Scores]] = {}
    if options.out is not None and options.out.is_file():
        found = json.loads(options.out.read_text(encoding="utf-8"))
    wanted = [f"{budget:g}" for budget in budgets]
    if any(list(scores) != wanted for seeds in found.values() for scores in seeds.values()):
        parser.error(f"{options.out} has scores after other budgets. Choose another file for --out")
    for seed in range(options.seeds):
        for row in rows:
            if str(seed) in found.get(row, {}):
                continue
            scores = measure(row, [*overrides, f"run.seed={seed}"], budgets)
            found.setdefault(row, {})[str(seed)] = scores
            print(f"{row}, seed {seed}: {scores}", flush=True)
            if options.out is not None:
                options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(draw(found))


if __name__ == "__main__":
    main()
