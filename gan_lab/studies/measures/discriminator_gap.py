"""The surplus of a discriminator's certainty about its training images over held-out ones."""

from __future__ import annotations

import torch

from gan_lab.runs.run import Run
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import BATCH_SIZE, read_images
from gan_lab.studies.measures.scores import collect_scores


@torch.no_grad()
def measure(arm: Arm) -> Values:
    """Return ``gap``, mean logit on the training images minus that on held-out ones, and scores.

    The unit is the pooled standard deviation of the logits (Cohen's d), since logits have no scale
    of their own. Held out are the validation and test images. The discriminator is that of the last
    iteration; the scores are those of the arm's training (measure ``scores``).
    """
    folder = arm.train(arm.arguments)
    restored = Run(folder).restore()
    restored.load("raw")
    data, D = restored.data, restored.family.discriminator
    assert isinstance(D, torch.nn.Module)
    logits = {}
    for name, splits in (("train", [data.train]), ("held_out", [data.validation, data.test])):
        parts = []
        for split in splits:
            parts += [D(part) for part in read_images(data, split).split(BATCH_SIZE)]
        logits[name] = torch.cat(parts).double()
    spread = torch.cat([each - each.mean() for each in logits.values()]).square().mean().sqrt()
    gap = logits["train"].mean() - logits["held_out"].mean()
    return {"gap": float(gap / spread), **collect_scores(folder)}
