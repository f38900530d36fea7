"""Facts about a data set that other modules need without its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gan_lab.images import ImageSpec


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set as it is served to a run.

    ``counts`` has the number of images of ``train``, ``learned`` (the subset of ``train`` that the
    model is trained on, see ``data.images``), ``validation`` and ``test``.
    """

    spec: ImageSpec
    counts: Mapping[str, int]
    # In the order of the labels; empty for an unlabeled set.
    class_names: tuple[str, ...]
    # "full" or "sample".
    source: str
    # One line for the user.
    about: str
    # Hash of the pixels and labels.
    fingerprint: str
    # Empty if unknown.
    license: str = ""
