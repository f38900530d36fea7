"""Fréchet distance of the images halfway between two samples.

The argument ``path=latent`` of an arm takes the middle of the great circle between their latents,
``path=pixels`` the mean of their pixels, and ``path=none`` the samples themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan_lab.inference.sampling import TrainedGenerator, great_circle, load_generator
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import (
    compute_fd,
    extract_features,
    load_digits,
    read_images,
)
from gan_lab.utils.errors import UserError

ARGUMENTS = ("path",)


def measure(arm: Arm) -> Values:
    """Return ``fd`` and ``log_fd`` between test digits and as many images of the arm's path."""
    _, arguments = arm.split_arguments(*ARGUMENTS)
    generator = load_generator(arm.train(arguments))
    digits = load_digits()
    reals = read_images(digits, digits.test)
    images = generate(generator, arm.text("path"), len(reals), arm.seed)
    fd = compute_fd(extract_features(reals), extract_features(images))
    return {"fd": fd, "log_fd": math.log(fd)}


def generate(generator: TrainedGenerator, path: str, n: int, seed: int) -> Tensor:
    """Generate n images [n, C, H, W] halfway between n pairs of samples, or n of the samples."""
    first, second = generator.latents(2 * n, seed).split(n)
    if path == "latent":
        half = torch.tensor([0.5], dtype=first.dtype)
        return generator.images_of(great_circle(first, second, half)[:, 0], None)
    samples = generator.images_of(first, None)
    if path == "pixels":
        return (samples + generator.images_of(second, None)) / 2
    if path == "none":
        return samples
    raise UserError(f"path={path}. Set latent, pixels or none in the study's file")
