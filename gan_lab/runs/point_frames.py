"""Frames of a training on 2-D points: generated points, and the discriminator over the plane.

A run writes ``samples/<images seen>.npz`` with each sample grid. The page plays the frames.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lab.utils.files import atomic_path

SUFFIX = ".npz"
# points of the lattice along each axis of [-1, 1], which contains all generated points
LATTICE_SIDE = 41
# uncompressed; a file of a run folder could be anyone's
MAX_FILE_BYTES = 1_000_000
MAX_POINTS = 10_000


@dataclass(frozen=True)
class PointFrame:
    """One moment of a training on 2-D points.

    Attributes:
        points: Points of the EMA generator for fixed latents, [N, 2] in [-1, 1].
        logits: The discriminator's logits on the lattice, [side, side], the first row at y = 1;
            None for a family without a discriminator.
        loss: The name of the adversarial loss, which gives the logits their meaning.
    """

    points: np.ndarray
    logits: np.ndarray | None
    loss: str


def make_lattice() -> Tensor:
    """Return the points of the lattice as images [side², 2, 1, 1], row by row from y = 1 down."""
    axis = torch.linspace(-1, 1, LATTICE_SIDE)
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2, 1, 1)


def write_frame(path: Path, points: Tensor, logits: Tensor | None, loss: str) -> None:
    """Write a frame atomically.

    Args:
        path: The file.
        points: Generated points [N, 2, 1, 1] on the CPU.
        logits: Logits of the lattice [side²]; None for a family without a discriminator.
        loss: The name of the adversarial loss.
    """
    arrays = {"points": points.flatten(1).float().numpy(), "loss": np.array(loss)}
    if logits is not None:
        arrays["logits"] = logits.view(LATTICE_SIDE, LATTICE_SIDE).float().cpu().numpy()
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_frame(path: Path) -> PointFrame | None:
    """Read a frame; None if the file is missing, damaged or too large."""
    try:
        with path.open("rb") as file:
            size = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
            if size > MAX_FILE_BYTES:
                return None
            file.seek(0)
            # no pickles, which could run code
            arrays = np.load(file, allow_pickle=False)
            points = arrays["points"]
            logits = arrays.get("logits")
            loss = str(arrays["loss"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_valid = _are_numbers(points, (len(points), 2)) and 0 < len(points) <= MAX_POINTS
    if logits is not None:
        is_valid = is_valid and _are_numbers(logits, (LATTICE_SIDE, LATTICE_SIDE))
    return PointFrame(points, logits, loss) if is_valid else None


def _are_numbers(array: np.ndarray, shape: Sequence[int]) -> bool:
    """Return whether an array has this shape and finite floats."""
    return (
        array.shape == tuple(shape) and array.dtype.kind == "f" and bool(np.isfinite(array).all())
    )
