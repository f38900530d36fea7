"""Did the augmentation leak into the samples? A small detector that was trained to tell augmented from plain real images."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from gan_lab import seeding
from gan_lab.augmentation import NORMAL, UNIFORM, ada, diffaugment
from gan_lab.data.base import GANDataModule
from gan_lab.data.samplers import EndlessBatchSampler
from gan_lab.families.base import Family
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics.nearest_neighbors import FAKES, draw_samples
from gan_lab.networks.classifier import Classifier
from gan_lab.seeding import Stream

STEPS, BATCH, RATE = 300, 64, 1e-3  # of the detector, images in each, Adam's learning rate
NAMES = ("leaks", "leaks_of_reals", "leaks_of_augmented")


def find_leaks(family: Family, data: GANDataModule, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The shares of samples, of held-out images, and of held-out images augmented that the detector calls augmented.

    It learns from all training images. Samples like held-out images are right; samples like augmented ones are what an
    augmentation leaks.
    """
    assert family.augmentation is not None
    policy = family.augmentation.cfg.policy
    train = _pixels(data, "train", sys.maxsize)
    detector = train_detector(train, policy)
    plain = _pixels(data, "test", FAKES)
    shown = (draw_samples(family, data, seed, "leaks"), plain, augmented(plain, policy, Stream(0, "leaks/held out")))
    values = {name: share_augmented(detector, pixels) for name, pixels in zip(NAMES, shown, strict=True)}
    description = f"convolutional, {STEPS} steps of {BATCH} training images, half of them by {policy}"
    return values, {"extractor": "classifier", "classifier": description, "reals": len(plain), "fakes": FAKES}


def _pixels(data: GANDataModule, split: str, n: int) -> Tensor:
    return torch.cat([to_uint8(batch.images) for batch in data.reference(n, split=split)])


@torch.no_grad()
def augmented(pixels: Tensor, policy: str, stream: Stream) -> Tensor:
    """Pixels uint8 [N, C, H, W], augmented: by ADA with a probability of its own for each image, from 0.1 to 1."""
    images = to_unit(pixels)
    uniform = stream.uniform(len(images), UNIFORM + 1, like=images)
    if policy == "diffaugment":
        return to_uint8(diffaugment(images, uniform))
    normal = stream.normal(len(images), NORMAL, like=images)
    return to_uint8(ada(images, uniform, normal, 0.1 + 0.9 * uniform[:, -1]))


def train_detector(pixels: Tensor, policy: str) -> Classifier:
    """A network of two classes, plain and augmented; the draws and the order are its own."""
    with torch.random.fork_rng(devices=[]):
        seeding.seed_torch(0, "leaks")
        network = Classifier(shape=pixels.shape[1:], classes=2, width=16, hidden=64)
    optimizer, half = Adam(network.parameters(), RATE), BATCH // 2
    answers = torch.arange(2).repeat_interleave(half)
    with torch.enable_grad():  # an evaluation has it switched off
        for step, rows in enumerate(EndlessBatchSampler(len(pixels), BATCH, 0, 0, STEPS, purpose="leaks")):
            images = pixels[rows]
            changed = augmented(images[half:], policy, Stream(0, "leaks", step))
            optimizer.zero_grad()
            cross_entropy(network(to_unit(torch.cat([images[:half], changed]))), answers).backward()
            optimizer.step()
    return network


@torch.no_grad()
def share_augmented(detector: Classifier, pixels: Tensor) -> float:
    """The share of images that the detector calls augmented."""
    called = torch.cat([detector(to_unit(block)).argmax(dim=1) for block in pixels.split(500)])
    return float(called.double().mean())
