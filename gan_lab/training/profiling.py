"""Measure the iterations and the evaluation of an experiment in a short training."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from gan_lab import device
from gan_lab.config.loading import LoadedConfig
from gan_lab.config.schema import with_values
from gan_lab.distributed import detect
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training.builder import Experiment, build, load_data, quiet_lightning

# One warmup iteration precedes them. StyleGAN2 and GANs with lazy R1 are slower in every sixteenth.
MEASURED_ITERATIONS = 16
# A slow training is stopped after this time with fewer iterations.
MAX_MEASUREMENT_S = 60.0


class Stopwatch(Callback):
    """Records the seconds of each iteration and the output shape of each network."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def on_train_start(self, trainer: Trainer, family: Any) -> None:
        for name, network in family.named_children():
            network.register_forward_hook(partial(self._record_shape, name))

    def _record_shape(self, name: str, network: nn.Module, inputs: Any, output: Any) -> None:
        # an encoder returns means and log-variances
        first = output[0] if isinstance(output, tuple | list) else output
        self.shapes.setdefault(name, tuple(first.shape))

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._start)
        if sum(self.seconds) > MAX_MEASUREMENT_S:
            trainer.should_stop = True

    @property
    def iteration(self) -> float:
        """Mean seconds of an iteration, without the warmup iteration if there are others."""
        return statistics.fmean(self.seconds[1:] or self.seconds)


def measure(
    loaded: LoadedConfig, folder: Path, watch: Stopwatch, dataset: Any = None, test: Any = None
) -> tuple[Experiment, float, float]:
    """Train an experiment for ``MEASURED_ITERATIONS``, in a temporary folder.

    Args:
        loaded: The experiment.
        folder: The temporary folder.
        watch: Records the iterations.
        dataset: A data set from Python, which replaces the configured one.
        test: Its test images.

    Returns:
        The experiment, the seconds per iteration and the seconds per evaluation.
    """
    short = {
        "run.images": (1 + MEASURED_ITERATIONS) * loaded.config.data.batch_size,
        "run.devices": None,
        "run.num_nodes": 0,
    }
    config = with_values(loaded.config, short | {"log.progress_bar": False, "log.wandb": "off"})
    built = build(
        *load_data(config, dataset, test),
        RunFolder(folder / loaded.experiment / "measured"),
        extra=[watch],
        launched=detect.SINGLE_PROCESS,
    )
    evaluation_s = measure_evaluation(built)
    with quiet_lightning():
        built.trainer.fit(built.family, datamodule=built.data)
    if built.checkpoint.signal:
        raise KeyboardInterrupt
    return built, watch.iteration, evaluation_s


def measure_evaluation(built: Experiment) -> float:
    """Measure the seconds of an evaluation, without the first one, which also reads the reals."""
    built.family.eval().to(device.get_default_device())
    built.evaluation.evaluator(built.family)
    started = time.perf_counter()
    built.evaluation.evaluator(built.family)
    built.family.train()
    return time.perf_counter() - started
