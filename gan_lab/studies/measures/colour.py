"""Colorfulness of the images that an image-to-image model generates from test inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Values, scores


def compute_colorfulness(images: Tensor) -> Tensor:
    """Compute the colorfulness [B] of images [B, 3, H, W] in [-1, 1], in levels of 255; 0 is gray.

    Source: Hasler & Süsstrunk 2003 (SPIE 5007), the third metric.
    """
    red, green, blue = (images * 127.5).flatten(2).unbind(1)
    opponents = torch.stack([red - green, 0.5 * (red + green) - blue])
    spread, mean = opponents.std(dim=2, unbiased=False), opponents.mean(dim=2)
    return spread.norm(dim=0) + 0.3 * mean.norm(dim=0)


@torch.no_grad()
def measure(arm: Arm) -> Values:
    """Return ``colourfulness``, relative to the ground truth, and the scores of the run."""
    folder = arm.train(arm.arguments)
    restored = Run(folder).restore()
    family, data = restored.family, restored.data
    generated: list[Tensor] = []
    real: list[Tensor] = []
    for batch in data.reference(data.available("test")):
        fakes = family.generate(batch.to_device(family.device, family.dtype), Stream(0, "colour"))
        generated.append(compute_colorfulness(fakes).cpu())
        truth = batch.to_device(torch.device("cpu"), torch.float32).images
        real.append(compute_colorfulness(truth))
    return scores.collect_scores(folder) | {
        "colourfulness": float(torch.cat(generated).mean() / torch.cat(real).mean())
    }
