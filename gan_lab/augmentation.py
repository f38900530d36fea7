"""Discriminator augmentation for small data sets: applied to reals and fakes, differentiable.

``diffaugment``: Zhao, Liu, Lin, Zhu, Han 2020, arXiv 2006.10738, section 3: color, translation and
cutout, always.
``ada``: Karras, Aittala, Hellsten, Laine, Lehtinen, Aila 2020, arXiv 2006.06676, sections 3 and 4,
appendix B: each transformation with a probability that adapts to the discriminator's accuracy on
reals.

Differs from the papers:
- ADA has the pixel, geometric and color transformations without arbitrary rotation: horizontal
  flips, 90-degree rotations, translation, isotropic and anisotropic scaling; brightness, contrast,
  luma flip, hue and saturation.
- Scaling is bilinear; the papers use filtered resampling. ADA pads by reflection, as in the paper.
  DiffAugment's translation and cutout fill with gray, which is 0.
- ADA's sign statistic is computed from the accuracy on reals. Both agree if the decision threshold
  is 0. For least squares the threshold is 0.5, and for relativistic and Wasserstein losses halfway
  between the mean logits of reals and fakes; there the statistic measures how well the
  discriminator separates them, for which overfitting is only one reason: p can rise without it.
- p is clamped at 1; the authors' code lets it grow, without effect on probabilities.
- Luma flip and hue rotation apply to color images only. The authors also flip the luma of gray
  images, which turns digits into dark ones on white.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.config.schema import AugmentConfig
from gan_lab.seeding import Stream

# ADA updates its probability every 4 iterations (section 3)
ADA_INTERVAL_ITERATIONS = 4
# DiffAugment: maximum translation and side of the cutout square, as fractions of the image side
MAX_TRANSLATION = 1 / 8
CUTOUT_SIDE = 1 / 2
# ADA: maximum integer translation and standard deviation of the subpixel translation, as fractions
# of the image side; standard deviation of the scale in octaves
MAX_INTEGER_TRANSLATION = 1 / 8
TRANSLATION_SD = 1 / 8
SCALE_SD_OCTAVES = 0.2
# ADA: standard deviations of brightness (images have a range of 2), contrast and saturation
BRIGHTNESS_SD = 0.2
CONTRAST_SD_OCTAVES = 0.5
SATURATION_SD_OCTAVES = 1.0
# random numbers per image
UNIFORMS_PER_IMAGE = 17
NORMALS_PER_IMAGE = 8


class Augmentation(nn.Module):
    """Random transformations of images [B, C, H, W] in [-1, 1].

    Its buffers are ADA's state: the probability ``p``, and the sum of sign statistics since the
    last update of ``p``.
    """

    p: Tensor
    signs: Tensor

    def __init__(self, cfg: AugmentConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.register_buffer("p", torch.tensor(cfg.p))
        self.register_buffer("signs", torch.tensor(0.0))

    def forward(self, images: Tensor, stream: Stream, chunks: int = 1) -> Tensor:
        """Augment images in float32 or float64, at any precision.

        Args:
            images: Images [B, C, H, W].
            stream: Source of the random numbers.
            chunks: Number of equal chunks of the batch that get the same transformations.

        Returns:
            Augmented images [B, C, H, W].
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            n = len(images) // chunks
            uniform = stream.uniform(n, UNIFORMS_PER_IMAGE, like=images).repeat(chunks, 1)
            if self.cfg.policy == "diffaugment":
                return diffaugment(images, uniform)
            normal = stream.normal(n, NORMALS_PER_IMAGE, like=images).repeat(chunks, 1)
            return ada(images, uniform, normal, self.p)

    @torch.no_grad()
    def update_probability(self, accuracy_real: Tensor, iteration: int, batch_size: int) -> None:
        """Increase ADA's p if D's mean sign on reals exceeds ``augment.target``, else decrease it.

        Args:
            accuracy_real: Share of reals that D classifies as real, over all ranks.
            iteration: Index of the completed iteration, from 0.
            batch_size: Images per iteration, over all ranks.
        """
        self.signs += 2 * accuracy_real.to(self.signs.dtype) - 1
        if (iteration + 1) % ADA_INTERVAL_ITERATIONS == 0:
            step = batch_size * ADA_INTERVAL_ITERATIONS / self.cfg.speed_images
            mean_sign = self.signs / ADA_INTERVAL_ITERATIONS
            self.p += torch.sign(mean_sign - self.cfg.target) * step
            self.p.clamp_(0, 1)
            self.signs.zero_()


class Augmented:
    """A discriminator with augmented input.

    Each call within a step uses new random numbers. The eager passes of the penalties, ``forward``,
    repeat those of the calls in the same order, so that R1 sees the reals and R2 the fakes as their
    logits were computed. Image i of each of the ``chunks`` equal chunks of a batch gets the same
    transformation.
    """

    def __init__(
        self, network: Any, augmentation: Augmentation, stream: Callable[[str], Stream], chunks: int
    ) -> None:
        self.network = network
        self.augmentation = augmentation
        self.stream = stream
        self.chunks = chunks
        self.calls = 0
        self.eager_passes = 0

    def _augment(self, images: Tensor, index: int) -> Tensor:
        return self.augmentation(images, self.stream(f"augment {index}"), self.chunks)

    def __call__(self, images: Tensor, *rest: Any) -> Any:
        """Call the network, including its compiled graph and hooks."""
        self.calls += 1
        return self.network(self._augment(images, self.calls), *rest)

    def forward(self, images: Tensor, *rest: Any) -> Any:
        """Call the network's eager ``forward``, which supports double backward.

        The i-th of these passes in a step repeats the augmentation of the i-th call.
        """
        self.eager_passes += 1
        return self.network.forward(self._augment(images, self.eager_passes), *rest)

    def features(self, images: Tensor) -> Any:
        """Call the network's ``features``."""
        self.calls += 1
        return self.network.features(self._augment(images, self.calls))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


# -------------------------------------------------------------------------------------------------
# Transformations: pure functions of the images, of uniform numbers [B, UNIFORMS_PER_IMAGE] in
# [0, 1) and of normal numbers [B, NORMALS_PER_IMAGE]


def diffaugment(images: Tensor, uniform: Tensor) -> Tensor:
    """Apply color, translation and cutout (section 3, with the authors' strengths)."""
    height, width = images.shape[2:]
    u = uniform.t()
    # brightness, saturation, contrast
    x = images + _per_image(u[0] - 0.5)
    x = _scale_about(x, x.mean(dim=1, keepdim=True), 2 * u[1])
    x = _scale_about(x, x.mean(dim=(1, 2, 3), keepdim=True), u[2] + 0.5)
    x = _resample(x, _translation_matrices(height, u[3]), _translation_matrices(width, u[4]))
    rows, columns = _cutout_mask(height, u[5]), _cutout_mask(width, u[6])
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0.0, x)


def _per_image(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1], for broadcasting over images."""
    return values.view(-1, 1, 1, 1)


def _scale_about(x: Tensor, center: Tensor, factor: Tensor) -> Tensor:
    return (x - center) * _per_image(factor) + center


def _translation_matrices(side: int, u: Tensor) -> Tensor:
    """Return matrices [B, side, side] that shift pixels, filling with 0."""
    limit = int(side * MAX_TRANSLATION + 0.5)
    shift = (u * (2 * limit + 1)).floor() - limit
    index = torch.arange(side, device=u.device)
    return ((index[None, :] - index[:, None])[None] == shift.view(-1, 1, 1)).to(u.dtype)


def _cutout_mask(side: int, u: Tensor) -> Tensor:
    """Return the rows or columns [B, side] of a square whose center is anywhere in the image."""
    length = int(side * CUTOUT_SIDE + 0.5)
    first = (u * (side + 1 - length % 2)).floor() - length // 2
    index = torch.arange(side, device=u.device) - first.view(-1, 1)
    return (index >= 0) & (index < length)


def _resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resample images [B, C, H, W] by matrices [B, H, H] and [B, W, W].

    Matrix products support double backward, which grid_sample does not.
    """
    return rows.unsqueeze(1) @ x @ columns.transpose(1, 2).unsqueeze(1)


def ada(images: Tensor, uniform: Tensor, normal: Tensor, p: Tensor) -> Tensor:
    """Apply each implemented transformation of appendix B, figure 17, with probability p."""
    height, width = images.shape[2:]
    square = height == width
    u, g = uniform.t(), normal.t()

    def choose(index: int, value: Tensor, identity: float) -> Tensor:
        return torch.where(u[index] < p, value, identity)

    # a rotation by k * 90 degrees is a transpose (k odd) and flips
    turns = choose(0, (4 * u[10]).floor(), 0) if square else torch.zeros_like(u[0])
    flip_rows = (turns == 1) | (turns == 2)
    flip_columns = (turns == 2) | (turns == 3)
    flip_columns = flip_columns ^ (choose(1, (2 * u[11]).floor(), 0) == 1)
    x = images
    if square:
        x = torch.where(_per_image(turns % 2 == 1), images.transpose(2, 3), images)

    scale = choose(2, 2 ** (SCALE_SD_OCTAVES * g[2]), 1)
    stretch = choose(3, 2 ** (SCALE_SD_OCTAVES * g[3]), 1)
    matrices = []
    for axis, (side, flipped, factor) in enumerate(
        ((height, flip_rows, scale / stretch), (width, flip_columns, scale * stretch))
    ):
        integer_shift = ((2 * u[12 + axis] - 1) * MAX_INTEGER_TRANSLATION * side).round()
        shift = choose(4, integer_shift, 0)
        shift = shift + choose(5, TRANSLATION_SD * side * g[4 + axis], 0)
        sign = torch.where(flipped, -1.0, 1.0)
        matrices.append(_bilinear_matrices(side, sign / factor, shift))
    x = _resample(x, *matrices)

    brightness = choose(6, BRIGHTNESS_SD * g[6], 0)
    contrast = choose(7, 2 ** (CONTRAST_SD_OCTAVES * g[7]), 1)
    x = (x + _per_image(brightness)) * _per_image(contrast)
    if images.shape[1] != 3:
        return x
    hue = choose(8, (2 * u[14] - 1) * math.pi, 0)
    luma_flip = choose(9, (2 * u[15]).floor(), 0)
    saturation = choose(16, 2 ** (SATURATION_SD_OCTAVES * g[0]), 1)
    return torch.einsum("bij,bjhw->bihw", _color_matrices(luma_flip, hue, saturation), x)


def _bilinear_matrices(side: int, factor: Tensor, shift: Tensor) -> Tensor:
    """Return matrices [B, side, side] that sample at ``center + factor * offset + shift``."""
    index = torch.arange(side, device=factor.device, dtype=factor.dtype)
    center, last = (side - 1) / 2, max(side - 1, 1)
    position = center + (index - center) * factor.view(-1, 1) + shift.view(-1, 1)
    # reflection padding
    position = last - (position.remainder(2 * last) - last).abs()
    return (1 - (position.unsqueeze(2) - index).abs()).clamp(min=0)


def _color_matrices(luma_flip: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Return RGB matrices [B, 3, 3]: luma flip, hue rotation about the gray axis, saturation.

    Args:
        luma_flip: 1 where the luma is negated, else 0, [B].
        hue: Rotation angles in radians, [B].
        saturation: Factors on the chroma, [B].
    """
    identity = torch.eye(3, dtype=hue.dtype, device=hue.device)
    gray = torch.full_like(identity, 1 / 3)
    cross = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)
    chroma = identity - gray
    cos, sin = hue.cos().view(-1, 1, 1), hue.sin().view(-1, 1, 1)
    strength = saturation.view(-1, 1, 1)
    luma = (1 - 2 * luma_flip).view(-1, 1, 1)
    return luma * gray + strength * (cos * chroma + sin * cross)
