"""A data set as arrays: what each file of this folder makes of ``data:``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan_lab.data.split import PixelArray
from gan_lab.images import ImageSpec


@dataclass
class ArrayDataset:
    """A data set: images, their labels [N] int64 where it has any, and the sources where it is about translation.

    ``spec.pairs`` says where sources and images correspond; where they do not, their numbers may differ.
    """

    spec: ImageSpec
    train_images: PixelArray
    train_labels: np.ndarray | None
    test_images: PixelArray
    test_labels: np.ndarray | None
    source: str  # full or sample
    about: str  # one line for the user: which data, and why
    fingerprint: str
    train_sources: PixelArray | None = None
    test_sources: PixelArray | None = None
    class_names: Sequence[str] = ()  # in the order of the labels, where they have any
    validation: np.ndarray | None = (
        None  # rows of test_images that choose; None: ``halves`` decides
    )
    license: str = ""  # of the images, where it is known
