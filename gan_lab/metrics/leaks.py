"""Augmentation leaks, detected by a classifier that is trained on plain and augmented reals."""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from gan_lab import seeding
from gan_lab.augmentation import NORMALS_PER_IMAGE, UNIFORMS_PER_IMAGE, ada, diffaugment
from gan_lab.data.base import GANDataModule
from gan_lab.data.samplers import EndlessBatchSampler
from gan_lab.families.base import Family
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.nearest_neighbors import MAX_FAKES, draw_samples
from gan_lab.networks.classifier import Classifier
from gan_lab.seeding import Stream

logger = logging.getLogger("gan_lab")
# training of the detector with Adam
TRAINING_STEPS = 300
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
# A detector trained on ten faces calls 0.6 of all held-out faces augmented.
MIN_IMAGES = 50
SCORE_NAMES = ("leaks", "leaks_of_reals", "leaks_of_augmented")
EXPLANATIONS = {
    "leaks": Explanation(
        "Leaks of the augmentation",
        "Share of samples that a detector classifies as augmented",
        None,
        "0 to 1; as leaks_of_reals if the augmentation does not leak",
    ),
    "leaks_of_reals": Explanation(
        "Leaks of real images", "The same share of unchanged test images", None, "0 to 1"
    ),
    "leaks_of_augmented": Explanation(
        "Leaks of augmented images", "The same share of augmented test images", None, "0 to 1"
    ),
}


def find_leaks(
    family: Family, data: GANDataModule, seed: int, fakes: int = MAX_FAKES
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compute the shares of images that a detector classifies as augmented.

    The shares are those of samples (``leaks``), of test images (``leaks_of_reals``) and of
    augmented test images (``leaks_of_augmented``). The detector is trained on all training images.
    Without a leak, samples have the same share as test images.

    Returns:
        The shares by name, and their protocol; both empty with too few images for a detector.
    """
    assert family.augmentation is not None
    policy = family.augmentation.cfg.policy
    train = _pixels(data, "train", sys.maxsize)
    plain = _pixels(data, "test", fakes)
    if min(len(train), len(plain)) < MIN_IMAGES:
        logger.info(
            f"Skipping leaks: {len(train)} training and {len(plain)} test images; each needs "
            f"{MIN_IMAGES}"
        )
        return {}, {}
    detector = train_detector(train, policy)
    images = (
        draw_samples(family, data, seed, "leaks", fakes),
        plain,
        augment(plain, policy, Stream(0, "leaks/held out")),
    )
    values = {
        name: share_augmented(detector, pixels)
        for name, pixels in zip(SCORE_NAMES, images, strict=True)
    }
    description = (
        f"convolutional, {TRAINING_STEPS} steps of {BATCH_SIZE} training images, "
        f"half of them by {policy}"
    )
    return values, {
        "extractor": "classifier",
        "classifier": description,
        "reals": len(plain),
        "fakes": fakes,
    }


def _pixels(data: GANDataModule, split: str, n: int) -> Tensor:
    return torch.cat([to_uint8(batch.images) for batch in data.reference(n, split=split)])


@torch.no_grad()
def augment(pixels: Tensor, policy: str, stream: Stream) -> Tensor:
    """Augment pixels, uint8 [N, C, H, W]. ADA's p is random in [0.1, 1] for each image."""
    images = to_unit(pixels)
    uniform = stream.uniform(len(images), UNIFORMS_PER_IMAGE + 1, like=images)
    if policy == "diffaugment":
        return to_uint8(diffaugment(images, uniform))
    normal = stream.normal(len(images), NORMALS_PER_IMAGE, like=images)
    return to_uint8(ada(images, uniform, normal, 0.1 + 0.9 * uniform[:, -1]))


def train_detector(pixels: Tensor, policy: str) -> Classifier:
    """Train a classifier of plain and augmented images without using the global random state."""
    with torch.random.fork_rng(devices=[]):
        seeding.seed_torch(0, "leaks")
        network = Classifier(shape=pixels.shape[1:], classes=2, width=16, hidden=64)
    optimizer = Adam(network.parameters(), LEARNING_RATE)
    half = BATCH_SIZE // 2
    targets = torch.arange(2).repeat_interleave(half)
    order = EndlessBatchSampler(len(pixels), BATCH_SIZE, 0, 0, TRAINING_STEPS, purpose="leaks")
    # Evaluation runs under no_grad.
    with torch.enable_grad():
        for step, rows in enumerate(order):
            images = pixels[rows]
            changed = augment(images[half:], policy, Stream(0, "leaks", step))
            optimizer.zero_grad()
            cross_entropy(network(to_unit(torch.cat([images[:half], changed]))), targets).backward()
            optimizer.step()
    return network


@torch.no_grad()
def share_augmented(detector: Classifier, pixels: Tensor) -> float:
    """Compute the share of images, uint8 [N, C, H, W], that are classified as augmented."""
    predicted = torch.cat([detector(to_unit(block)).argmax(dim=1) for block in pixels.split(500)])
    return float(predicted.double().mean())
