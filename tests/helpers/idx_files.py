"""Tiny sets in MNIST's file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_idx(
    raw: Path,
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> None:
    """Write the four unpacked files of a set: uint8 images [N, H, W] and labels [N]."""
    raw.mkdir(parents=True, exist_ok=True)
    for part, pixels, numbers in (("train", images, labels), ("t10k", test_images, test_labels)):
        for name, array in (
            (f"{part}-images-idx3-ubyte", pixels),
            (f"{part}-labels-idx1-ubyte", numbers),
        ):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (raw / name).write_bytes(header + array.astype(np.uint8).tobytes())
