"""Reconstruct held-out images with the encoder of a run, and interpolate between their latents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gan_lab.images import Batch, save_grid
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@torch.no_grad()
def reconstruct(
    folder: Path, n: int, out: Path, overrides: Sequence[str] = (), weights: str = "best"
) -> None:
    """Save a grid of n held-out images and their reconstructions.

    Raises UserError for a family without an encoder.
    """
    family, batch = _load_held_out(folder, n, overrides, weights)
    reconstructed = family.outputs(batch, Stream(0, "reconstruct"))["reconstructed"]
    pairs = torch.stack([batch.images, reconstructed], dim=1).flatten(0, 1)
    record = {"output": "reconstruction", **_describe_source(folder, weights), "n": n}
    save_grid(pairs, 8, out, record=record)


@torch.no_grad()
def interpolate(
    folder: Path,
    n: int,
    steps: int,
    out: Path,
    overrides: Sequence[str] = (),
    weights: str = "best",
) -> None:
    """Save a grid of straight lines between the latents of held-out images.

    Row 1 goes from image 1 to image 2, row 2 from image 2 to image 3, and so on. Raises UserError
    for a family without an encoder, and for fewer than two images.
    """
    family, batch = _load_held_out(folder, n + 1, overrides, weights)
    if len(batch.images) < 2:
        raise UserError(
            f"Too few held-out images to interpolate: 1 in the data of {folder}. "
            "Use a data set with at least 2"
        )
    z, _ = family.encoder(batch.images)
    share = torch.linspace(0, 1, steps, device=z.device).view(1, -1, 1)
    latents = z[:-1].unsqueeze(1) * (1 - share) + z[1:].unsqueeze(1) * share
    record = {"output": "test interpolation", **_describe_source(folder, weights), "n": n}
    images = family.generator(latents.flatten(0, 1))
    save_grid(images, steps, out, record={**record, "steps": steps})


def _load_held_out(
    folder: Path, n: int, overrides: Sequence[str], weights: str
) -> tuple[Any, Batch]:
    restored = Run(folder).restore(overrides, weights=weights)
    family: Any = restored.family
    if "reconstructed" not in family.output_names:
        raise UserError(
            f"No encoder: {folder}. Use a run of a family with an encoder, such as vaegan"
        )
    (batch,) = restored.data.reference(n, size=n)
    return family, batch.to_device(family.device, family.dtype)


def _describe_source(folder: Path, weights: str) -> dict[str, Any]:
    """Describe the weights for the record of an image."""
    with warnings.catch_warnings():
        # restoring the run has warned already
        warnings.filterwarnings("ignore", message=r".* has no best\.ckpt")
        return load_ema_networks(folder, weights).describe_source()
