"""A ring of eight 2-D Gaussians, as images of two channels and one pixel: a minimal test of GANs.

The labels are the modes. The ring is a common test of mode dropping (Metz et al. 2016, arXiv
1611.02163). Here it fits into [-1, 1], and the standard deviation is 1/20 of the radius.
"""

from __future__ import annotations

import numpy as np

from gan_lab import seeding
from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import ImageSpec

MODES = 8
RING_RADIUS = 0.7
# Standard deviation of each mode along each axis.
SPREAD = 0.035
NUM_POINTS = 50_000
HELD_OUT = 10_000


def centers() -> np.ndarray:
    """Return the centers of the modes, [8, 2] float32."""
    angle = 2 * np.pi * np.arange(MODES) / MODES
    return (RING_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)


def decode(cfg: DataConfig) -> ArrayDataset:
    """Sample the points, always from seed 0; ``cfg`` has no effect."""
    rng = np.random.Generator(np.random.Philox(key=seeding.key(0, "toy")))
    labels = rng.integers(MODES, size=NUM_POINTS + HELD_OUT)
    noise = SPREAD * rng.standard_normal((len(labels), 2), dtype=np.float32)
    points = (centers()[labels] + noise).reshape(-1, 2, 1, 1)
    spec = ImageSpec(2, 1, 1, classes=MODES, content="points")
    about = (
        f"generated points, a ring of {MODES} Gaussians "
        f"({NUM_POINTS:,} train, {HELD_OUT:,} held out)"
    )
    return ArrayDataset(
        spec,
        points[:NUM_POINTS],
        labels[:NUM_POINTS],
        points[NUM_POINTS:],
        labels[NUM_POINTS:],
        "full",
        about,
        f"toy-{MODES}-1",
    )
