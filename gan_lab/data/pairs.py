"""Pairs of pictures: the sample."""

from __future__ import annotations

from gan_lab.data import horses
from gan_lab.data.base import Decoded
from gan_lab.schema import DataConfig


def decode(cfg: DataConfig) -> Decoded:
    """The set that ``cfg.source`` asks for."""
    if cfg.source == "full":
        raise ValueError("data.source=full: cannot be had yet, take data.source=sample")
    return horses.sample(cfg, paired=True, reason="data.source=sample")
