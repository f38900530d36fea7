"""Learning rates over a training: one function for the keys ``model.decay…``, which every family has."""

from __future__ import annotations

import math

from gan_lab.config.schema import ModelConfig


def decay_factor(cfg: ModelConfig, images_seen: int, to: float) -> float:
    """The share of a value that is left after so many images: from 1 to ``to``, and there it stays.

    >>> decay_factor(ModelConfig(decay="linear", decay_from=100, decay_images=200), 150, to=0.0)
    0.75
    """
    if cfg.decay_images == 0:
        return 1.0
    done = min(1.0, max(0.0, (images_seen - cfg.decay_from) / cfg.decay_images))
    left = 1 - done if cfg.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return to + (1 - to) * left
