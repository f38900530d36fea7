"""A decoded data set, which the ``decode`` function of every data set returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan_lab.data.facts import FileCounts
from gan_lab.data.split import PixelArray
from gan_lab.images import ImageSpec


@dataclass
class ArrayDataset:
    """A data set: images, optional labels [N] int64, and sources for image-to-image translation.

    ``spec.pairs`` says which sources and images are pairs; unpaired sets may differ in size.
    """

    spec: ImageSpec
    train_images: PixelArray
    train_labels: np.ndarray | None
    test_images: PixelArray
    test_labels: np.ndarray | None
    # "full" or "sample".
    source: str
    # One line for the user: which data, and why.
    about: str
    fingerprint: str
    train_sources: PixelArray | None = None
    test_sources: PixelArray | None = None
    # In the order of the labels; empty if the classes have no names.
    class_names: Sequence[str] = ()
    # The rows of test_images that are the validation set; None: see ``split_in_half``.
    validation: np.ndarray | None = None
    # License of the images; empty if unknown.
    license: str = ""
    # Black and white levels of images with more than 8 bits, see ``DataConfig.levels``.
    levels: Sequence[float] = ()
    # The files under data.root; None if the set does not consist of image files.
    files: FileCounts | None = None
