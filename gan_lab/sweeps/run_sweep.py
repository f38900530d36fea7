"""Run a sweep: choose its folder, its storage and its backend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gan_lab.runs.run_folder import defines_results
from gan_lab.sweeps import sweep_report, wandb_agents
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.sweeps.trials import Trials
from gan_lab.sweeps.worker import Worker
from gan_lab.utils.errors import UserError

logger = logging.getLogger("gan_lab")

WANDB_TIMEOUT_S = 3.0


def output_folder(sweep: Sweep, overrides: Sequence[str]) -> Path:
    """Return a sweep's folder, ``<run.root>/sweeps/<name>``: database, runs, logs and report."""
    roots = [text.partition("=")[2] for text in overrides if text.startswith("run.root=")]
    return Path(roots[-1] if roots else "runs") / "sweeps" / sweep.name


def open_trials(sweep: Sweep, overrides: Sequence[str], storage: str | None) -> Trials:
    """Open the trials of a sweep for reading.

    Raises:
        UserError: There are no trials yet.
    """
    folder = output_folder(sweep, overrides)
    if not storage and not (folder / "trials.db").is_file():
        raise UserError(f"no trials in {folder}. Start the sweep: make sweep SWEEP={sweep.name}")
    return Trials(sweep, storage or _default_storage(folder), limit=1)


def _default_storage(folder: Path) -> str:
    return f"sqlite:///{(folder / 'trials.db').absolute()}"


def run(
    sweep: Sweep,
    overrides: Sequence[str],
    workers: int,
    limit: int | None,
    backend: str,
    storage: str | None,
    retry_failed: bool = False,
) -> int:
    """Run the unfinished trials, and with ``retry_failed`` the failed ones.

    Returns:
        The exit code.

    Raises:
        UserError: The options do not fit together, the sweep has changed, or all trials fail.
    """
    folder = output_folder(sweep, overrides)
    for option, is_given in (("--retry-failed", retry_failed), ("--storage", bool(storage))):
        if backend == "wandb" and is_given:
            raise UserError(
                f"{option} needs --backend local, because W&B stores the trials of its own sweeps"
            )
    if backend == "wandb" or (
        backend == "auto" and not storage and not retry_failed and _can_use_wandb()
    ):
        return wandb_agents.run(sweep, folder, overrides, workers, limit)

    trials = Trials(sweep, storage or _default_storage(folder), limit)
    trials.ensure_same(_definition(sweep, overrides))
    logger.info(
        f"{sweep.name}: {sweep.method}, {trials.limit} trials of {sweep.experiment}, "
        f"{workers} at a time, in {folder}"
    )
    if retry_failed:
        logger.info(f"Retrying {trials.retry_failed()} failed trials")
    code = Worker(sweep, trials, folder, overrides).run(workers)
    if code == 0:
        sweep_report.report(trials, folder, overrides)
        if sweep_report.collect_results(trials).best is None:
            logger.info(f"No trial is complete. See {folder / 'logs'}")
            code = 2
    trials.close()
    return code


def _definition(sweep: Sweep, overrides: Sequence[str]) -> dict[str, object]:
    """Return the settings that must not change during a sweep, for trials to be comparable."""
    keys = ("method", "metric", "parameters", "early_terminate", "command")
    defining = []
    for text in overrides:
        key = text.partition("=")[0]
        if defines_results(key):
            defining.append(text)
    return {**{key: sweep.content.get(key) for key in keys}, "overrides": sorted(defining)}


def _can_use_wandb() -> bool:
    """Return True if W&B is configured and its server responds."""
    from gan_lab.training.callbacks import wandb_logger
    from gan_lab.utils.network import is_reachable

    if not wandb_logger.is_wanted():
        return False
    if is_reachable(wandb_logger.host(), WANDB_TIMEOUT_S):
        return True
    logger.info(f"{wandb_logger.host()} does not respond. Running the sweep locally")
    return False
