"""The budget of ``budget=auto``: about an hour on this machine, and less for few images."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from gan_lab.config.loading import LoadedConfig
from gan_lab.config.schema import Config, with_values
from gan_lab.config.values import format_overrides
from gan_lab.data.base import GANDataModule
from gan_lab.distributed import detect
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import profiling, warm_start
from gan_lab.utils.errors import UserError

TRAINING_S = 3600.0
# of each training image; more views of few images make the model memorize them
MAX_VIEWS = 2_000
MAX_EVALUATIONS = 5
# of TRAINING_S
MAX_EVALUATION_SHARE = 0.1
logger = logging.getLogger("gan_lab")


def resolve(
    loaded: LoadedConfig,
    run: RunFolder,
    launched: detect.Launch,
    dataset: Any = None,
    test: Any = None,
) -> Config:
    """Return a config with the budget of ``budget=auto``: that of the run, or a measured one.

    Args:
        loaded: The experiment, with ``automatic_keys``.
        run: Its run folder. A run that has begun keeps its budget.
        launched: How the processes were started.
        dataset: A data set from Python, which replaces the configured one.
        test: Its test images.

    Raises:
        UserError: There are several processes, or the config does not suit the data.
    """
    recorded = find_recorded(loaded, run)
    if recorded:
        return recorded
    check_processes(loaded, launched.world_size)
    if "run.images" not in loaded.automatic_keys:
        return with_values(loaded.config, _divide(loaded.config.run.images, MAX_EVALUATIONS))
    # a missing checkpoint is reported before the measurement
    warm_start.find_start(loaded.config)
    logger.info("budget=auto: measuring the time of an iteration and of an evaluation")
    config = _measure(loaded, dataset, test)
    # the networks of the measurement refer to each other
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    logger.info(explain(config, loaded.automatic_keys))
    return config


def find_recorded(loaded: LoadedConfig, run: RunFolder) -> Config | None:
    """Return the config with the budget of a run that has begun, None for a new run."""
    if not run.has_config or loaded.config.run.overwrite:
        return None
    return with_values(loaded.config, _read_budget(Run(run.path).config, loaded.automatic_keys))


def _read_budget(config: Config, keys: Collection[str]) -> dict[str, int]:
    """Return the values of the keys, which are under ``run``."""
    return {key: getattr(config.run, key.removeprefix("run.")) for key in keys}


def check_processes(loaded: LoadedConfig, world_size: int) -> None:
    """Check that one process measures a new run: several would choose different budgets.

    Raises:
        UserError: There are several.
    """
    if "run.images" in loaded.automatic_keys and world_size > 1:
        raise UserError(
            f"budget=auto measures one process, and there are {world_size}. Set run.images, such "
            "as run.images=200_000"
        )


def _measure(loaded: LoadedConfig, dataset: Any, test: Any) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        built, iteration_s, evaluation_s = profiling.measure(
            loaded, Path(folder), profiling.Stopwatch(), dataset, test
        )
    return choose(loaded, built.data, iteration_s, evaluation_s)


def choose(
    loaded: LoadedConfig, data: GANDataModule, iteration_s: float, evaluation_s: float
) -> Config:
    """Return a config with a budget for a machine and a data set.

    Args:
        loaded: The experiment, with ``automatic_keys``.
        data: Its data.
        iteration_s: Seconds per iteration.
        evaluation_s: Seconds per evaluation.
    """
    config, keys = loaded.config, loaded.automatic_keys
    if "run.images" not in keys:
        return with_values(config, _divide(config.run.images, MAX_EVALUATIONS))
    count = int(MAX_EVALUATION_SHARE * TRAINING_S / max(evaluation_s, 1e-3))
    count = min(max(count, 1), MAX_EVALUATIONS)
    in_time = (TRAINING_S - count * evaluation_s) / iteration_s * config.data.batch_size
    images = min(config.run.images, int(in_time))
    # points are never repeated
    if data.spec.content != "points":
        images = min(images, MAX_VIEWS * len(data.train))
    images = max(_round_down(images), config.data.batch_size)
    values = {"run.images": images} | _divide(images, count)
    return with_values(config, {key: values[key] for key in keys})


def _divide(images: int, count: int) -> dict[str, int]:
    """Return the interval of ``count`` evaluations in a training."""
    return {"run.evaluate_every_images": -(-images // count)}


def explain(config: Config, keys: Collection[str]) -> str:
    """Return the line that names the chosen values, as overrides that choose them again."""
    return f"budget=auto chose {' '.join(format_overrides(_read_budget(config, keys)))}"


def _round_down(count: int) -> int:
    """Round a number down to two significant digits."""
    unit = 10 ** max(len(str(max(count, 1))) - 2, 0)
    return count // unit * unit
