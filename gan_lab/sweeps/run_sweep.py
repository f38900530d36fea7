"""Run a sweep: choose its folder, its storage and its backend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gan_lab.runs.folder import is_resumable
from gan_lab.sweeps import sweep_report, wandb_agents
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.sweeps.trials import Trials
from gan_lab.sweeps.worker import Worker
from gan_lab.utils.errors import UserError

logger = logging.getLogger("gan_lab")


def folder_of(sweep: Sweep, words: Sequence[str]) -> Path:
    """Folder of a sweep, ``<run.root>/sweeps/<name>``: its database, its runs, the output of its trials, its report."""
    roots = [word.partition("=")[2] for word in words if word.startswith("run.root=")]
    return Path(roots[-1] if roots else "runs") / "sweeps" / sweep.name


def open_trials(sweep: Sweep, words: Sequence[str], storage: str | None) -> Trials:
    """Open the trials of a sweep for reading. Raises UserError if there are none yet."""
    folder = folder_of(sweep, words)
    if not storage and not (folder / "trials.db").is_file():
        raise UserError(f"{folder} holds no trials: make sweep SWEEP={sweep.name} begins them")
    return Trials(sweep, storage or _default_storage(folder), limit=1)


def _default_storage(folder: Path) -> str:
    return f"sqlite:///{(folder / 'trials.db').absolute()}"


def run(
    sweep: Sweep, words: Sequence[str], workers: int, limit: int | None, backend: str, storage: str | None,
    retry_failed: bool = False,
) -> int:  # fmt: skip
    """Run the unfinished trials, and with ``retry_failed`` the failed ones; return the exit code.

    Raises UserError for what the user can fix.
    """
    folder = folder_of(sweep, words)
    if retry_failed and backend == "wandb":
        raise UserError("--retry-failed is for --backend local: W&B keeps the trials of its sweeps itself")
    if backend == "wandb" and storage:
        raise UserError("--storage is for --backend local: W&B keeps the trials of its sweeps itself")
    if backend == "wandb" or (backend == "auto" and not storage and not retry_failed and _wandb_answers()):
        return wandb_agents.run(sweep, folder, words, workers, limit)

    trials = Trials(sweep, storage or _default_storage(folder), limit)
    keys = {word: word.partition("=")[0] for word in words}
    defining_words = sorted(word for word, key in keys.items() if not is_resumable(key) or key == "run.images")
    recorded = {key: sweep.content.get(key) for key in ("method", "metric", "parameters", "early_terminate", "command")}
    trials.ensure_same({**recorded, "words": defining_words})
    logger.info(
        f"{sweep.name}: {sweep.method}, {trials.limit} trials of {sweep.experiment}, {workers} at a time, in {folder}"
    )
    if retry_failed:
        logger.info(f"{trials.retry_failed()} failed trials are retried")
    code = Worker(sweep, trials, folder, words).run(workers)
    if code == 0:
        sweep_report.report(trials, folder, words)
        if not any(row.state == "complete" for row in sweep_report.collect_results(trials).rows):
            logger.info(f"no trial is complete: {folder / 'logs'} says why")
            code = 2
    trials.close()
    return code


def _wandb_answers() -> bool:
    from gan_lab.training.callbacks import wandb_logger
    from gan_lab.utils.network import is_reachable

    if not wandb_logger.is_wanted():
        return False
    if is_reachable(wandb_logger.host(), 3.0):
        return True
    logger.info(f"{wandb_logger.host()} does not answer: the sweep runs here")
    return False
