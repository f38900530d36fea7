"""Colourfulness of images that a translator makes of held-out inputs, and its scores."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Values, scores


def colourfulness(images: Tensor) -> Tensor:
    """Of each image [B, 3, H, W] in [-1, 1], in levels of 255: 0 where it is gray.

    Source: Hasler & Süsstrunk 2003, "Measuring colourfulness in natural images", the third metric.
    """
    red, green, blue = (images * 127.5).flatten(2).unbind(1)
    opponents = torch.stack([red - green, 0.5 * (red + green) - blue])
    spread, mean = opponents.std(dim=2, unbiased=False), opponents.mean(dim=2)
    return spread.norm(dim=0) + 0.3 * mean.norm(dim=0)


@torch.no_grad()
def measure(arm: Arm) -> Values:
    """``colourfulness``: the mean over that of the true images; and what ``scores`` says."""
    folder = arm.train(arm.words)
    restored = Run(folder).restore()
    family, data = restored.family, restored.data
    made, real = [], []
    for batch in data.reference(data.available("test")):
        fakes = family.generate(batch.to_device(family.device, family.dtype), Stream(0, "colour"))
        made.append(colourfulness(fakes).cpu())
        real.append(colourfulness(batch.to_device(torch.device("cpu"), torch.float32).images))
    return scores.of_run(folder) | {
        "colourfulness": float(torch.cat(made).mean() / torch.cat(real).mean())
    }
