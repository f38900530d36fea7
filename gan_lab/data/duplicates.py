"""Count images that a data set has twice: pixel by pixel, or nearly so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_lab.data.base import GANDataModule
from gan_lab.images import to_gray

BLOCK, MOST = 500, 50_000  # images that are read at once, and that are looked at
SIDE, NEAR = (
    16,
    4.0,
)  # of the small gray copies in pixels, and their largest mean difference in levels of 255


@dataclass
class Duplicates:
    """Images that came before among those looked at, and those of them whose first one is on the other side of the split."""

    looked_at: int = 0
    exact: int = 0
    exact_across: int = 0
    near: int = 0
    near_across: int = 0


def count(data: GANDataModule) -> Duplicates:
    """Count duplicates among the first ``MOST`` images of the training and what is held out together.

    Near ones have the same difference hash (each pixel of 8 x 9 brighter than the next, or not) and small gray copies
    that hardly differ: the same picture in another size, or compressed anew.
    """
    found = Duplicates()
    first: dict[bytes, bool] = {}  # of each image when it came first: whether it is held out
    copies: dict[bytes, list[tuple[Tensor, bool]]] = {}  # by difference hash
    for block, held_out in _blocks(data):
        images = torch.from_numpy(np.asarray(block))
        gray = to_gray(images.float()) if images.shape[1] == 3 else images[:, :1].float()
        small = interpolate(gray, (SIDE, SIDE), mode="bilinear", antialias=True)
        for image, copy, key in zip(images, small, _difference_hashes(gray), strict=True):
            found.looked_at += 1
            digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
            if digest in first:
                found.exact += 1
                found.exact_across += first[digest] != held_out
                continue
            first[digest] = held_out
            others = copies.setdefault(key, [])
            alike = [where for other, where in others if float((copy - other).abs().mean()) <= NEAR]
            if alike:
                found.near += 1
                found.near_across += alike[0] != held_out
            else:
                others.append((copy, held_out))
    return found


def _blocks(data: GANDataModule) -> Iterator[tuple[np.ndarray, bool]]:
    left = MOST
    for split, held_out in ((data.train, False), (data.held_out, True)):
        for rows in np.split(
            np.arange(min(left, len(split))), np.arange(BLOCK, min(left, len(split)), BLOCK)
        ):
            if len(rows):
                yield split.images[rows], held_out
        left -= min(left, len(split))


def _difference_hashes(gray: Tensor) -> list[bytes]:
    rows = interpolate(gray, (8, 9), mode="bilinear", antialias=True)
    return [bits.numpy().tobytes() for bits in (rows[..., 1:] > rows[..., :-1]).flatten(1)]
