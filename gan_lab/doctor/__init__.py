"""Check that this machine can train: one line per check, with a remedy for each problem.

Only the checks import torch, so that a broken installation of torch is also reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from gan_lab.config.loading import load
from gan_lab.config.schema import Config
from gan_lab.doctor import check_files, check_machine, check_processes
from gan_lab.doctor.finding import REINSTALL_ADVICE, Finding
from gan_lab.utils.errors import first_line

logger = logging.getLogger("gan_lab")

CHECKS: dict[str, Callable[[Config], Finding]] = {
    "python": check_machine.interpreter,
    "torch": check_machine.torch_and_torchvision,
    "devices": check_machine.devices,
    "threads": check_machine.threads,
    "precision": check_machine.precision,
    "shared memory": check_machine.shared_memory,
    "runs": check_files.runs,
    "data": check_files.data,
    "cache": check_files.cache,
    "samples": check_files.samples,
    "inception": check_files.inception,
    "W&B": check_processes.wandb,
    "launcher": check_processes.launcher,
    "port": check_processes.port,
    "all-reduce": check_processes.all_reduce,
}


def examine(overrides: Sequence[str]) -> int:
    """Run all checks and log one line for each.

    Args:
        overrides: Overrides such as data.root=/scratch, which set the folders to check.

    Returns:
        The exit code: 2 if a check failed, else 0.

    Raises:
        UserError: An override is invalid.
    """
    config = load("cgan", overrides).config
    levels = []
    for name, check in CHECKS.items():
        try:
            finding = check(config)
        except Exception as error:
            # A check that raises must not stop the others.
            finding = Finding(
                "FAIL", f"{type(error).__name__}: {first_line(error)}", REINSTALL_ADVICE
            )
        levels.append(finding.level)
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        logger.info(f"{finding.level:<5} {name:<13} {finding.text}{remedy}")
    failed, warned = levels.count("FAIL"), levels.count("warn")
    logger.info(f"{len(levels) - failed - warned} ok, {warned} warn, {failed} failed")
    return 2 if failed else 0
