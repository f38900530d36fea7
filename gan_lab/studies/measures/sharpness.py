"""Sharpness of samples: the energy of their pixel gradients relative to that of real images."""

from __future__ import annotations

from torch import Tensor

from gan_lab.inference.sampling import load_generator
from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values

SAMPLES = 500


def compute_gradient_energy(images: Tensor) -> float:
    """Compute the mean squared difference of neighboring pixels in images [B, C, H, W].

    It is the sum over the horizontal and the vertical direction.
    """
    horizontal = images.diff(dim=3).square().mean()
    vertical = images.diff(dim=2).square().mean()
    return float(horizontal + vertical)


def measure(arm: Arm) -> Values:
    """Return ``sharpness``, which is 1 for samples as sharp as held-out images."""
    folder = arm.train(arm.arguments)
    generator = load_generator(folder, exact=True)
    held_out = Run(folder).restore(weights=None).data.reference(SAMPLES)
    real = sum(
        compute_gradient_energy(batch.images) * len(batch.images) for batch in held_out
    ) / len(held_out.rows)
    samples = generator(n=SAMPLES, seed=arm.seed)
    return {"sharpness": compute_gradient_energy(samples) / real}
