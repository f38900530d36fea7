"""Sharpness of the samples of a trained generator: the energy of their gradients over that of real images."""

from __future__ import annotations

from torch import Tensor

from gan_lab.inference.sampling import load_generator
from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values

SAMPLES = 500


def energy(images: Tensor) -> float:
    """Mean square of the differences of neighbouring pixels, both ways, of images [B, C, H, W]."""
    across, down = images.diff(dim=3).square().mean(), images.diff(dim=2).square().mean()
    return float(across + down)


def measure(arm: Arm) -> Values:
    """``sharpness`` of samples: 1 where they are as sharp as held-out images."""
    folder = arm.train(arm.words)
    generator = load_generator(folder, exact=True)
    held_out = Run(folder).restore(weights=None).data.reference(SAMPLES)
    real = sum(energy(batch.images) * len(batch.images) for batch in held_out) / len(held_out.rows)
    return {"sharpness": energy(generator(n=SAMPLES, seed=arm.seed)) / real}
