"""Every family with an experiment of its own and settings that are small enough for a test; found, not listed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gan_lab import config

FAMILIES = config.families()
every_family = pytest.mark.parametrize("family", FAMILIES)


def experiment_of(family: str) -> str:
    """The first experiment of a family: the one of its own name, if there is one."""
    mine = [name for name in config.experiments() if config.load(name).config.family == family]
    return family if family in mine else mine[0]


def small(family: str, root: Path, data_root: Path, *more: str) -> list[str]:
    """Words for a quick run on digits: narrow networks, batches of 16, no tracker, no bar."""
    keys = {item.name for item in fields(config.family_class(family).Config)}
    words = ["data.batch_size=16", "log.bar=false", "log.wandb=off", "metrics.n=100", f"run.root={root}",
             f"data.root={data_root}", "data.source=sample"]  # fmt: skip
    words += ["model.width=4"] if "width" in keys else []
    return [*words, *more]
