"""Scores of samples whose flaw is known: real digits, copies, or few different digits.

An arm has the argument ``samples=``, one of ``SAMPLES``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gan_lab.data.base import GANDataModule
from gan_lab.images import to_uint8
from gan_lab.metrics.extractors import load
from gan_lab.metrics.inception_score import inception_score
from gan_lab.metrics.manifold import precision_recall_density_coverage
from gan_lab.seeding import permutation
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import (
    compute_fd,
    extract_features,
    load_digits,
    read_images,
)
from gan_lab.utils.errors import UserError

# held_out: digits of no other set; copies: training images; one_per_class: one image of each class,
# repeated; five_classes: training images of the digits 0 to 4.
SAMPLES = ("held_out", "copies", "one_per_class", "five_classes")
CLASSES_KEPT = 5
# Fewer than the held-out digits, so that their choice differs from seed to seed.
NUM_SAMPLES = 300


def measure(arm: Arm) -> Values:
    """Return inception score, Fréchet distance and coverage of ``NUM_SAMPLES`` samples.

    The reals are as many test digits, in an order that depends on the seed.
    """
    digits = load_digits()
    real_rows = permutation(arm.seed, "reals", 0, len(digits.test))[:NUM_SAMPLES]
    reals = read_images(digits, digits.test, real_rows)
    kind = arm.text("samples")
    rows = choose_rows(digits, kind, NUM_SAMPLES, arm.seed)
    split = digits.validation if kind == "held_out" else digits.train
    fakes = read_images(digits, split, rows)
    real_features = extract_features(reals)
    fake_features, logits = extract_features(fakes), compute_logits(fakes)
    shares = precision_recall_density_coverage(real_features, fake_features)
    return {
        "inception_score": inception_score(logits, splits=1)[0],
        "log_fd": math.log(compute_fd(real_features, fake_features)),
        "coverage": shares["coverage"],
        "precision": shares["precision"],
    }


def compute_logits(images: Tensor) -> Tensor:
    """Compute the digit classifier's logits [N, 10] of images [N, 1, 28, 28] in [-1, 1]."""
    with torch.no_grad():
        logits = load("digits")(to_uint8(images))[1]
    assert logits is not None
    return logits


def choose_rows(digits: GANDataModule, kind: str, n: int, seed: int) -> np.ndarray:
    """Choose n rows, of the validation set for ``held_out``, otherwise of the training set."""
    if kind not in SAMPLES:
        raise UserError(f"samples={kind} is not valid. Choose one of {', '.join(SAMPLES)}")
    if kind == "held_out":
        return np.resize(permutation(seed, "rows", 0, len(digits.validation)), n)
    labels = digits.train.labels
    assert labels is not None
    rows = permutation(seed, "rows", 0, len(digits.train))
    if kind == "five_classes":
        rows = rows[labels[rows] < CLASSES_KEPT]
    if kind == "one_per_class":
        rows = np.array([rows[labels[rows] == label][0] for label in np.unique(labels)])
    return np.resize(rows, n)
