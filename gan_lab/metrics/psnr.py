"""Peak signal-to-noise ratio of images against ground truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_PIXEL = 255.0
MAX_PSNR_DB = 100.0


def squared_error(images: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    """Sum the squared differences of pixels in [0, 255] over each image.

    Args:
        images: uint8 [B, C, H, W].
        truth: uint8 [B, C, H, W]; or [B, 1, H, W], which is compared with every channel.
        where: bool [B, 1, H, W], the pixels that count; None: all.

    Returns:
        The sum and the number of summed values for each image, [B, 2] float64 on the CPU.
    """
    difference = (images.double() - truth.double()).square()
    if where is None:
        values_per_image = float(difference[0].numel())
        count = torch.full(
            (len(images),), values_per_image, dtype=torch.float64, device=images.device
        )
    else:
        difference = difference * where
        count = where.flatten(1).sum(dim=1).double() * difference.shape[1]
    return torch.stack([difference.flatten(1).sum(dim=1), count], dim=1).cpu()


def psnr(error: Tensor) -> float:
    """Compute 10 log10(255² / mean squared error) in dB over all images together, up to 100.

    Args:
        error: The ``squared_error`` of the images, [N, 2].
    """
    total, count = error.sum(dim=0).tolist()
    mean = total / max(count, 1.0)
    return min(MAX_PSNR_DB, 10 * math.log10(MAX_PIXEL**2 / max(mean, 1e-12)))
