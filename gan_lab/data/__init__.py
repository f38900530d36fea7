"""Data sets. The file name is the registry: ``data.name=mnist`` is ``mnist.py`` with its function ``decode``."""

from __future__ import annotations

import importlib
from pathlib import Path

from gan_lab.config import unknown
from gan_lab.data.base import LabData
from gan_lab.schema import DataConfig


def names() -> list[str]:
    """Every data set, found without importing it: the files with a function ``decode``."""
    folder = Path(__file__).parent
    files = [path for path in folder.glob("*.py") if not path.name.startswith(".")]
    return sorted(path.stem for path in files if "\ndef decode(" in path.read_text(encoding="utf-8"))


def load(cfg: DataConfig, seed: int) -> LabData:
    """The data module of ``cfg.name``. Raises ValueError for an unknown name or data that cannot be had."""
    if cfg.name not in names():
        raise ValueError(unknown("data set", cfg.name, names()))
    decoded = importlib.import_module(f"gan_lab.data.{cfg.name}").decode(cfg)
    return LabData(decoded, cfg, seed)
