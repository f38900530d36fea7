"""Cycle reconstruction: its error, and how much of the input is hidden in the translation."""

from __future__ import annotations

import torch

from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Values, scores

# Standard deviation of the noise on the translation: two levels of 255, for images in [-1, 1].
NOISE_STD = 2 / 127.5


@torch.no_grad()
def measure(arm: Arm) -> Values:
    """Return the reconstruction error, its sensitivity to noise, and the scores of the run.

    ``cycle_error`` is the mean square of F(G(x)) - x; ``hidden`` is the ratio of the same error
    with noise on G(x) to it.
    """
    folder = arm.train(arm.arguments)
    restored = Run(folder).restore()
    family = restored.family
    G, F = family.generator, family.generator_back
    assert isinstance(G, torch.nn.Module)
    assert isinstance(F, torch.nn.Module)
    errors: list[torch.Tensor] = []
    noisy_errors: list[torch.Tensor] = []
    for number, batch in enumerate(restored.data.reference(restored.data.available("test"))):
        x = batch.to_device(family.device, family.dtype).sources
        assert x is not None
        y = G(x)
        noise = NOISE_STD * Stream(arm.seed, "hidden", number).normal(len(y), *y.shape[1:], like=y)
        errors.append((F(y) - x).square().flatten(1).mean(dim=1))
        noisy_errors.append((F(y + noise) - x).square().flatten(1).mean(dim=1))
    error = float(torch.cat(errors).mean())
    return scores.collect_scores(folder) | {
        "cycle_error": error,
        "hidden": float(torch.cat(noisy_errors).mean()) / error,
    }
