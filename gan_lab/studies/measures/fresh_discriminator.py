"""Accuracy of a newly initialized discriminator that is trained against a fixed generator.

An arm with the argument ``samples=real`` has no generator: other real digits take the place of the
fakes, and no discriminator can beat one half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_lab import losses, networks
from gan_lab.inference.sampling import load_generator
from gan_lab.seeding import permutation, seed_torch
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import load_digits, read_images

BATCH_SIZE = 64
WIDTH = 16
STEPS = 500
ARGUMENTS = ("samples",)
# Half of the training images stand for the fakes of the arm without a generator.
REAL = "real"


def measure(arm: Arm) -> Values:
    """Return the balanced ``accuracy`` on test digits and new fakes after ``STEPS`` steps."""
    samples, arguments = arm.split_arguments(*ARGUMENTS)
    digits = load_digits()
    images = read_images(digits, digits.train)
    test = read_images(digits, digits.test)
    if samples.get("samples") == REAL:
        order = torch.from_numpy(permutation(arm.seed, "halves", 0, len(images)))
        images, fakes = images[order].chunk(2)
        new_fakes = read_images(digits, digits.validation)
    else:
        generator = load_generator(arm.train(arguments))
        fakes = generator(n=len(images), seed=2 * arm.seed)
        new_fakes = generator(n=len(test), seed=2 * arm.seed + 1)
    seed_torch(arm.seed, "fresh discriminator")
    D = networks.discriminator("dcgan", shape=digits.spec.shape, width=WIDTH, norm="none")
    optimizer = torch.optim.Adam(D.parameters(), 1e-3, (0.5, 0.999))
    for step in range(STEPS):
        loss = losses.nonsaturating_d(
            D(_sample_rows(images, arm.seed, "reals", step)),
            D(_sample_rows(fakes, arm.seed, "fakes", step)),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        known_reals = (D(test) > 0).double().mean()
        known_fakes = (D(new_fakes) < 0).double().mean()
    return {"accuracy": float(known_reals + known_fakes) / 2}


def _sample_rows(images: Tensor, seed: int, purpose: str, step: int) -> Tensor:
    return images[permutation(seed, purpose, step, len(images))[:BATCH_SIZE]]
