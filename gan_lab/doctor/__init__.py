"""Looks at what a training needs of this machine: one line for each check, and what to do about it. Trains nothing.

torch is imported by the checks only, so that an installation without a working one is told as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from gan_lab.config.loading import load
from gan_lab.config.schema import Config
from gan_lab.doctor import files, machine, processes
from gan_lab.doctor.finding import REINSTALL, Finding

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
    """Say one line for each check; the exit code: 2 if one failed, else 0.

    Words such as data.root=/scratch say where things will lie. Raises ValueError for a word that a training would
    refuse.
    """
    config = load("cgan", words).config
    levels = []
    for name, check in CHECKS.items():
        try:
            finding = check(config)
        except Exception as error:  # by design: the next check is made even if this machine is broken here
            reason = str(error).strip().splitlines()
            finding = Finding(
                "FAIL", f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}", REINSTALL
            )
        levels.append(finding.level)
        logger.info(f"{finding.level:<5} {name:<13} {finding.text}{'; ' * bool(finding.remedy)}{finding.remedy}")
    failed, warned = levels.count("FAIL"), levels.count("warn")
    logger.info(f"{len(levels) - failed - warned} ok, {warned} to know of, {failed} failed")
    return 2 if failed else 0
