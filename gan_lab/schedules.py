"""Learning rate schedules: the ``model.decay*`` keys, which every family has."""

from __future__ import annotations

import math
import struct

from gan_lab.config.schema import ModelConfig


def decay_factor(cfg: ModelConfig, images_seen: int, to: float) -> float:
    """Return the factor on a scheduled value after ``images_seen`` images.

    It decays from 1 to ``to`` over ``cfg.decay_images`` images, starting at ``cfg.decay_from``, and
    is constant before and after.

    >>> decay_factor(ModelConfig(decay="linear", decay_from=100, decay_images=200), 150, to=0.0)
    0.75
    """
    if cfg.decay_images == 0:
        return 1.0
    progress = min(1.0, max(0.0, (images_seen - cfg.decay_from) / cfg.decay_images))
    remaining = 1 - progress
    if cfg.decay == "cosine":
        remaining = 0.5 * (1 + math.cos(math.pi * progress))
    return to + (1 - to) * remaining


def round_to_float32(x: float) -> float:
    """Round to the nearest float32, the precision that the number has on the device."""
    return struct.unpack("f", struct.pack("f", x))[0]
