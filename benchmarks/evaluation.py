"""What an evaluation in training costs beyond generating its images and extracting their features: `make
bench-evaluation`.

Each round measures both, one after the other; what is reported is the median over the rounds of the ratios within a
round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import asked, told
from gan_lab.config import loading
from gan_lab.images import to_uint8
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.runs.run_folder import RunFolder
from gan_lab.seeding import Stream
from gan_lab.training import builder

ROUNDS = 7


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def ratios(name: str, words: list[str], rounds: int) -> list[float]:
    """Of each round the time of an evaluation over that of generating and extracting alone."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = loading.load(name, ["log.progress_bar=false", "log.wandb=off", *words])
        built = builder.build(*builder.load_data(loaded.config), RunFolder(Path(folder)))
        family, evaluator = built.family.eval(), built.evaluation.evaluator
        (metric,) = (metric for metric in evaluator.metrics if isinstance(metric, FeatureScores))

        @torch.no_grad()
        def alone() -> None:
            parts = [
                (part, i) for part in (evaluator.first, evaluator.more) for i in range(len(part))
            ]
            for number, (part, i) in enumerate(parts):
                asked = part.conditions(i).to_device(family.device, family.dtype)
                metric.extractor(to_uint8(family.generate(asked, Stream(0, "evaluate", number))))

        evaluator(family), alone()  # reads the reals, once
        found = []
        for _ in range(rounds):
            plain = seconds(alone)
            found.append(seconds(lambda: evaluator(family)) / plain)
        return found


def main() -> None:
    experiments, words, rounds = asked(__doc__, ["dcgan", "cgan", "sngan"], ROUNDS)
    for name in experiments:
        print(
            f"{name}: evaluation / generating and extracting = {told(ratios(name, words, rounds))}"
        )


if __name__ == "__main__":
    main()
