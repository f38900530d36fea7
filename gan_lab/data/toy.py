"""A ring of eight Gaussians in the plane, as images of two channels and one pixel: a GAN's smallest honest test.

The labels are the modes. A ring of eight is the usual test for dropped modes, as in Metz et al. 2016 (arXiv
1611.02163); here it fits into [-1, 1], and each mode is a twentieth of the radius wide.
"""

from __future__ import annotations

import numpy as np

from gan_lab import seeding
from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import ImageSpec

MODES = 8
RADIUS = 0.7
SPREAD = 0.035  # standard deviation of each mode along each axis
COUNT = 50_000


def centres() -> np.ndarray:
    """The modes' centres, [8, 2] float32."""
    angle = 2 * np.pi * np.arange(MODES) / MODES
    return (RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)


def decode(cfg: DataConfig) -> ArrayDataset:
    """Drawn anew at each start, from seed 0; ``cfg`` changes nothing."""
    rng = np.random.Generator(np.random.Philox(key=seeding.key(0, "toy")))
    labels = rng.integers(MODES, size=COUNT + 10_000)
    noise = SPREAD * rng.standard_normal((len(labels), 2), dtype=np.float32)
    points = (centres()[labels] + noise).reshape(-1, 2, 1, 1)
    spec = ImageSpec(2, 1, 1, classes=MODES, content="points")
    about = f"points of a ring of {MODES} Gaussians ({COUNT:,} train, 10,000 held out): drawn here"
    return ArrayDataset(
        spec,
        points[:COUNT],
        labels[:COUNT],
        points[COUNT:],
        labels[COUNT:],
        "full",
        about,
        f"toy-{MODES}-1",
    )
