"""Loss of variety in the style of digits: all have nearly one slant, size or stroke width.

Digits are bright strokes on black. A severity of t % leaves (100 - t) % of each image's deviation
from the mean style. A severity of 0 loses nothing and shows what the resampling alone does to a
score. For slant and size, images are warped to the mean style and part of the way back; at 100 %
the second warp is the identity, so the resampling of 0 % is an upper bound of that of other
severities. For the stroke width they are enlarged once and reduced again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, max_pool2d

# Strokes are thickened and thinned at this multiple of the resolution.
SUBPIXELS = 4
MAX_RADIUS = 6


class Strokes(NamedTuple):
    """Moments of the brightness of images [N, 1, H, W], in pixels.

    Attributes:
        center: Centers of mass (x, y) [N, 2].
        size: Root mean square distances from the center [N].
        slant: Horizontal displacements per row [N]: the regression of x on y.
    """

    center: Tensor
    size: Tensor
    slant: Tensor


def lose_slant(pixels: Tensor, severity: int) -> Tensor:
    """Shear each image so that its slant approaches the mean slant."""
    strokes = measure_strokes(pixels)
    deviations = strokes.slant - strokes.slant.mean()
    upright = _warp(pixels, _shear_matrices(deviations), strokes.center)
    return _warp(upright, _shear_matrices(-(1 - severity / 100) * deviations), strokes.center)


def lose_size(pixels: Tensor, severity: int) -> Tensor:
    """Scale each image about its center so that its size approaches the geometric mean size."""
    strokes = measure_strokes(pixels)
    deviations = strokes.size.log() - strokes.size.log().mean()
    same = _warp(pixels, _scale_matrices(deviations), strokes.center)
    return _warp(same, _scale_matrices(-(1 - severity / 100) * deviations), strokes.center)


def lose_stroke_width(pixels: Tensor, severity: int) -> Tensor:
    """Thicken or thin each image so that its stroke width approaches the geometric mean width.

    Images are dilated or eroded at a higher resolution, by at most ``MAX_RADIUS`` of its pixels.
    """
    widths = measure_stroke_width(pixels)
    factors = (severity / 100 * (widths.log().mean() - widths.log())).exp()
    fine = interpolate(pixels, scale_factor=SUBPIXELS, mode="bicubic")
    thin = [-_dilate(-fine, radius) for radius in range(MAX_RADIUS, 0, -1)]
    thick = [_dilate(fine, radius) for radius in range(1, MAX_RADIUS + 1)]
    steps = torch.stack([avg_pool2d(image, SUBPIXELS) for image in (*thin, fine, *thick)])
    ink = steps.sum(dim=(2, 3, 4))
    # strokes keep their length, so their ink is proportional to their width
    wanted = (factors * ink[MAX_RADIUS]).clamp(ink[0], ink[-1])
    # interpolate between the two steps around the wanted ink, which increases from step to step
    upper = (ink < wanted).sum(0).clamp(1, len(steps) - 1)
    images = torch.arange(len(pixels))
    low, high = ink[upper - 1, images], ink[upper, images]
    share = ((wanted - low) / (high - low)).nan_to_num(0)[:, None, None, None]
    return torch.lerp(steps[upper - 1, images], steps[upper, images], share)


def measure_strokes(pixels: Tensor) -> Strokes:
    """Compute the moments of the brightness of images [N, 1, H, W]."""
    height, width = pixels.shape[-2:]
    weights = pixels[:, 0] / pixels[:, 0].sum(dim=(1, 2), keepdim=True).clamp(min=1)
    x = torch.arange(width, dtype=pixels.dtype)
    y = torch.arange(height, dtype=pixels.dtype)[:, None]
    center_x, center_y = (weights * x).sum(dim=(1, 2)), (weights * y).sum(dim=(1, 2))
    dx = x - center_x[:, None, None]
    dy = y - center_y[:, None, None]
    xx, xy, yy = ((weights * each).sum(dim=(1, 2)) for each in (dx * dx, dx * dy, dy * dy))
    # an empty image has no moments and stays as it is
    size = (xx + yy).sqrt().clamp(min=1)
    return Strokes(torch.stack([center_x, center_y], dim=1), size, xy / yy.clamp(min=1))


def measure_stroke_width(pixels: Tensor) -> Tensor:
    """Estimate the mean stroke width of images [N, 1, H, W], in pixels [N].

    A dilation by one pixel on either side makes strokes of width w wider by two.
    """
    ratio = pixels.sum(dim=(1, 2, 3)) / _dilate(pixels).sum(dim=(1, 2, 3)).clamp(min=1)
    return (2 * ratio / (1 - ratio).clamp(min=1e-3)).clamp(min=0.1)


def _dilate(pixels: Tensor, radius: int = 1) -> Tensor:
    return max_pool2d(pixels, 2 * radius + 1, stride=1, padding=radius)


def _shear_matrices(slants: Tensor) -> Tensor:
    """Return matrices [N, 2, 2] that map (x, y) to (x + slant y, y)."""
    matrices = torch.eye(2, dtype=slants.dtype).repeat(len(slants), 1, 1)
    matrices[:, 0, 1] = slants
    return matrices


def _scale_matrices(logarithms: Tensor) -> Tensor:
    """Return matrices [N, 2, 2] of a scaling by the exponential."""
    return torch.eye(2, dtype=logarithms.dtype) * logarithms.exp()[:, None, None]


def _warp(pixels: Tensor, matrices: Tensor, center: Tensor) -> Tensor:
    """Read each output pixel p at matrix (p - center) + center, by bicubic interpolation."""
    height, width = pixels.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=pixels.dtype),
        torch.arange(width, dtype=pixels.dtype),
        indexing="ij",
    )
    points = torch.stack([x, y], dim=-1).view(1, -1, 2) - center[:, None]
    read = points @ matrices.transpose(1, 2) + center[:, None]
    # grid_sample has the centers of the outer pixels at -1 + 1 / size and 1 - 1 / size
    read = (2 * read + 1) / torch.tensor([width, height], dtype=pixels.dtype) - 1
    return grid_sample(pixels, read.view(-1, height, width, 2), mode="bicubic", align_corners=False)
