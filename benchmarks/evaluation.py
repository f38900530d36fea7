"""Measure the overhead of an evaluation during training (make bench-evaluation).

The baseline only generates the images and extracts their features. Each round measures both
consecutively; the result is the median of the ratios within rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import parse_arguments, report_ratios
from gan_lab.config import loading
from gan_lab.images import to_uint8
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.runs.run_folder import RunFolder
from gan_lab.seeding import Stream
from gan_lab.training import builder

ROUNDS = 7


def measure_seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure_ratios(name: str, overrides: list[str], rounds: int) -> list[float]:
    """Measure the time of an evaluation divided by that of the baseline, for each round."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = loading.load(name, ["log.progress_bar=false", "log.wandb=off", *overrides])
        built = builder.build(*builder.load_data(loaded.config), RunFolder(Path(folder)))
        family, evaluator = built.family.eval(), built.evaluation.evaluator
        (metric,) = (metric for metric in evaluator.metrics if isinstance(metric, FeatureScores))

        @torch.no_grad()
        def generate_and_extract() -> None:
            parts = [
                (part, i) for part in (evaluator.first, evaluator.more) for i in range(len(part))
            ]
            for number, (part, i) in enumerate(parts):
                batch = part.conditions(i).to_device(family.device, family.dtype)
                metric.extractor(to_uint8(family.generate(batch, Stream(0, "evaluate", number))))

        # The first evaluation also reads the reals.
        evaluator(family)
        generate_and_extract()
        ratios = []
        for _ in range(rounds):
            baseline = measure_seconds(generate_and_extract)
            ratios.append(measure_seconds(lambda: evaluator(family)) / baseline)
        return ratios


def main() -> None:
    options = parse_arguments(__doc__, ["dcgan", "cgan", "sngan"], ROUNDS)
    for name in options.experiments:
        ratios = measure_ratios(name, options.overrides, options.rounds)
        report_ratios("evaluation / generating and extracting", name, options, ratios)


if __name__ == "__main__":
    main()
