"""Precision and recall of samples with truncated latents.

The argument ``truncation=<psi>`` of an arm shortens the latents, as in ``gan-lab sample``.
"""

from __future__ import annotations

from gan_lab.inference.sampling import load_generator
from gan_lab.metrics.manifold import precision_recall_density_coverage
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import extract_features, load_digits, read_images

ARGUMENTS = ("truncation",)


def measure(arm: Arm) -> Values:
    """Return precision, recall, density and coverage for as many samples as test digits."""
    _, arguments = arm.split_arguments(*ARGUMENTS)
    generator = load_generator(arm.train(arguments))
    digits = load_digits()
    reals = read_images(digits, digits.test)
    fakes = generator(n=len(reals), seed=arm.seed, truncation=arm.number("truncation"))
    return precision_recall_density_coverage(extract_features(reals), extract_features(fakes))
