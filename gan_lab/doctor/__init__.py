"""Check that this machine can train: one line for each check, with the remedy. Trains nothing.

Only the checks import torch, so that a broken installation of it is reported too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from gan_lab.config.loading import load
from gan_lab.config.schema import Config
from gan_lab.doctor import files, machine, processes
from gan_lab.doctor.finding import REINSTALL, Finding
from gan_lab.utils.errors import first_line

logger = logging.getLogger("gan_lab")

CHECKS: dict[str, Callable[[Config], Finding]] = {
    "python": machine.interpreter,
    "torch": machine.torch_and_torchvision,
    "devices": machine.devices,
    "threads": machine.threads,
    "shared memory": machine.shared_memory,
    "runs": files.runs,
    "data": files.data,
    "cache": files.cache,
    "samples": files.samples,
    "inception": files.inception,
    "W&B": processes.wandb,
    "launcher": processes.launcher,
    "port": processes.port,
    "all-reduce": processes.all_reduce,
}


def examine(words: Sequence[str]) -> int:
    """Log one line for each check; return the exit code: 2 if one failed, else 0.

    Overrides such as data.root=/scratch set the folders that are checked. Raises ValueError for an override that a
    training would refuse.
    """
    config = load("cgan", words).config
    levels = []
    for name, check in CHECKS.items():
        try:
            finding = check(config)
        except Exception as error:  # by design: the other checks still run
            finding = Finding("FAIL", f"{type(error).__name__}: {first_line(error)}", REINSTALL)
        levels.append(finding.level)
        logger.info(f"{finding.level:<5} {name:<13} {finding.text}{'; ' * bool(finding.remedy)}{finding.remedy}")
    failed, warned = levels.count("FAIL"), levels.count("warn")
    logger.info(f"{len(levels) - failed - warned} ok, {warned} warn, {failed} failed")
    return 2 if failed else 0
