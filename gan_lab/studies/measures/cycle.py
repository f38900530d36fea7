"""The way there and back of a translator: how well the input returns, and how much of it hides in the translation."""

from __future__ import annotations

import torch

from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Values, scores

NOISE = 2 / 127.5  # standard deviation on the translation, two levels of 255


@torch.no_grad()
def measure(arm: Arm) -> Values:
    """``cycle_error``, the mean square of F(G(x)) - x; ``hidden``, that with noise on G(x) over it; and the scores."""
    folder = arm.train(arm.words)
    restored = Run(folder).restore()
    family = restored.family
    G, F = family.generator, family.generator_back
    assert isinstance(G, torch.nn.Module)
    assert isinstance(F, torch.nn.Module)
    errors, disturbed = [], []
    for number, batch in enumerate(restored.data.reference(restored.data.available("test"))):
        x = batch.to_device(family.device, family.dtype).sources
        assert x is not None
        y = G(x)
        noise = NOISE * Stream(arm.seed, "hidden", number).normal(len(y), *y.shape[1:], like=y)
        errors.append((F(y) - x).square().flatten(1).mean(dim=1))
        disturbed.append((F(y + noise) - x).square().flatten(1).mean(dim=1))
    error = float(torch.cat(errors).mean())
    return scores.of_run(folder) | {
        "cycle_error": error,
        "hidden": float(torch.cat(disturbed).mean()) / error,
    }
