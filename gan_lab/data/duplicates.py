"""Count exact and near duplicates in a data set."""

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

BLOCK_IMAGES = 500
MAX_IMAGES = 50_000
# Near duplicates have gray thumbnails of this side whose mean absolute difference (of 255) is at
# most this.
THUMBNAIL_SIDE_PIXELS = 16
MAX_MEAN_DIFFERENCE = 4.0


@dataclass
class Duplicates:
    """Number of duplicates, and of those whose first copy is in the other split ("across")."""

    checked: int = 0
    exact: int = 0
    exact_across: int = 0
    near: int = 0
    near_across: int = 0


def count_duplicates(data: GANDataModule) -> Duplicates:
    """Count duplicates among the first ``MAX_IMAGES`` training and held-out images.

    Near duplicates have the same difference hash (whether each of 8 x 9 pixels is brighter than the
    next) and almost equal thumbnails: the same image resized or compressed again.
    """
    found = Duplicates()
    # For each distinct image, whether its first copy is held out.
    first_is_held_out: dict[bytes, bool] = {}
    thumbnails_of_hash: dict[bytes, list[tuple[Tensor, bool]]] = {}
    for block, held_out in _iterate_blocks(data):
        images = torch.from_numpy(np.asarray(block))
        gray = to_gray(images.float()) if images.shape[1] == 3 else images[:, :1].float()
        side = THUMBNAIL_SIDE_PIXELS
        thumbnails = interpolate(gray, (side, side), mode="bilinear", antialias=True)
        hashes = _difference_hashes(gray)
        for image, thumbnail, difference_hash in zip(images, thumbnails, hashes, strict=True):
            found.checked += 1
            digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
            if digest in first_is_held_out:
                found.exact += 1
                found.exact_across += first_is_held_out[digest] != held_out
                continue
            first_is_held_out[digest] = held_out
            candidates = thumbnails_of_hash.setdefault(difference_hash, [])
            similar = [
                other_is_held_out
                for other, other_is_held_out in candidates
                if float((thumbnail - other).abs().mean()) <= MAX_MEAN_DIFFERENCE
            ]
            if similar:
                found.near += 1
                found.near_across += similar[0] != held_out
            else:
                candidates.append((thumbnail, held_out))
    return found


def _iterate_blocks(data: GANDataModule) -> Iterator[tuple[np.ndarray, bool]]:
    left = MAX_IMAGES
    for split, held_out in ((data.train, False), (data.held_out, True)):
        n = min(left, len(split))
        for start in range(0, n, BLOCK_IMAGES):
            yield split.images[np.arange(start, min(start + BLOCK_IMAGES, n))], held_out
        left -= n


def _difference_hashes(gray: Tensor) -> list[bytes]:
    rows = interpolate(gray, (8, 9), mode="bilinear", antialias=True)
    return [bits.numpy().tobytes() for bits in (rows[..., 1:] > rows[..., :-1]).flatten(1)]
