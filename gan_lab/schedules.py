"""Learning rates over a training: one function, and the keys by which every family takes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gan_lab.config.schema import number


@dataclass(frozen=True)
class DecayConfig:
    """Keys under ``model:`` that all families have: how their learning rates fall, counted in images."""

    decay: Literal["linear", "cosine"] = "linear"
    decay_from: int = number(0, minimum=0)  # images after which they begin to fall
    decay_images: int = number(0, minimum=0)  # images in which they fall; 0: they stay
    decay_to: float = number(0.0, minimum=0, maximum=1)  # the share of each that is left then


def decay_factor(cfg: DecayConfig, images_seen: int, to: float) -> float:
    """The share of a value that is left after so many images: from 1 to ``to``, and there it stays.

    >>> decay_factor(DecayConfig(decay="linear", decay_from=100, decay_images=200), 150, to=0.0)
    0.75
    """
    if cfg.decay_images == 0:
        return 1.0
    done = min(1.0, max(0.0, (images_seen - cfg.decay_from) / cfg.decay_images))
    left = 1 - done if cfg.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return to + (1 - to) * left
