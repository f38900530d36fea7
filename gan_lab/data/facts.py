"""Facts of a data set that the rest of the lab needs without its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gan_lab.images import ImageSpec


@dataclass(frozen=True)
class DataFacts:
    """A data set as it is served to a run: what its images are, how many, and which.

    ``counts`` has the number of images of ``train``, ``learned`` (those of ``train`` that are trained on, up to
    ``data.images``), ``validation`` and ``test``.
    """

    spec: ImageSpec
    counts: Mapping[str, int]
    class_names: tuple[str, ...]  # in the order of the labels; empty for an unlabeled set
    source: str  # full or sample
    about: str  # one line for the user
    fingerprint: str  # hash of the pixels and labels
    license: str = ""  # empty where it is not known
