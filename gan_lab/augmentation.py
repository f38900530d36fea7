"""Augmentation of what a discriminator sees, for few training images: reals and fakes alike, with gradients.

``diffaugment``: Zhao, Liu, Lin, Zhu, Han 2020, arXiv 2006.10738, section 3: colour, translation and cutout, always.
``ada``: Karras, Aittala, Hellsten, Laine, Lehtinen, Aila 2020, arXiv 2006.06676, sections 3 and 4, appendix B: each
transformation with a probability that follows the sign of the discriminator's output on reals.

Differs from the papers:
- Of ADA's transformations those of pixels, geometry and colour that need no turning by any angle: mirroring, quarter
  turns, shifts, scalings; brightness, contrast, and for colours luma, hue and saturation. Enlarging and shrinking are
  bilinear, the papers' are filtered. Beyond the borders the image is reflected, as in the paper; DiffAugment's shift
  and cutout leave gray, which is 0.
- The sign is taken from the accuracy on reals, which is that of the sign where the discriminator's threshold is 0; so
  losses that have another threshold, or none, can be followed too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.config.schema import AugmentConfig
from gan_lab.seeding import Stream

INTERVAL = 4  # iterations between two steps of ADA's probability
SHIFT, CUTOUT = 1 / 8, 1 / 2  # DiffAugment: of the side, at most; and the side of the square
SHIFT_PIXELS, SHIFT_SD, SCALE_SD = (
    1 / 8,
    1 / 8,
    0.2,
)  # ADA: of the side, at most; of the side; in octaves
BRIGHTNESS_SD, CONTRAST_SD, SATURATION_SD = 0.2, 0.5, 1.0  # of a range of 2; in octaves; in octaves
UNIFORM, NORMAL = 17, 8  # numbers that an image draws


class Augmentation(nn.Module):
    """Random changes of images [B, C, H, W] in [-1, 1].

    The state of ADA is buffers: the probability ``p``, and what the discriminator said since it was last moved.
    """

    p: Tensor
    signs: Tensor

    def __init__(self, cfg: AugmentConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.register_buffer("p", torch.tensor(cfg.p))
        self.register_buffer("signs", torch.tensor(0.0))

    def forward(self, images: Tensor, stream: Stream, alike: int = 1) -> Tensor:
        """The images, changed, in float32 or better at any precision; ``alike`` equal parts of them in the same way."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            n = len(images) // alike
            uniform = stream.uniform(n, UNIFORM, like=images).repeat(alike, 1)
            if self.cfg.policy == "diffaugment":
                return diffaugment(images, uniform)
            normal = stream.normal(n, NORMAL, like=images).repeat(alike, 1)
            return ada(images, uniform, normal, self.p)

    @torch.no_grad()
    def follow(self, accuracy_real: Tensor, iteration: int, batch_size: int) -> None:
        """Move the ADA probability: up if D's mean sign on reals exceeds ``augment.target``, else down.

        Args:
            accuracy_real: Share of reals that D takes for real, over all processes.
            iteration: Number of the iteration that has ended, from 0.
            batch_size: Images of an iteration, over all processes.
        """
        self.signs += 2 * accuracy_real.to(self.signs.dtype) - 1
        if (iteration + 1) % INTERVAL == 0:
            self.p += torch.sign(self.signs / INTERVAL - self.cfg.target) * (
                batch_size * INTERVAL / self.cfg.speed_images
            )
            self.p.clamp_(0, 1)
            self.signs.zero_()


class Augmented:
    """A discriminator of augmented images: each pass through it in a step has random numbers of its own.

    Image i of each of ``alike`` equal parts of a batch is changed in the same way.
    """

    def __init__(
        self, network: Any, augmentation: Augmentation, stream: Callable[[str], Stream], alike: int
    ) -> None:
        self.network, self.augmentation, self.stream, self.alike = (
            network,
            augmentation,
            stream,
            alike,
        )
        self.passes = 0

    def _changed(self, images: Tensor) -> Tensor:
        self.passes += 1
        return self.augmentation(images, self.stream(f"augment {self.passes}"), self.alike)

    def __call__(self, images: Tensor, *rest: Any) -> Any:
        """The network's output, with what it has besides (a graph that is compiled, DDP's hooks)."""
        return self.network(self._changed(images), *rest)

    def forward(self, images: Tensor, *rest: Any) -> Any:
        """The network's own ``forward``, for what is differentiated twice."""
        return self.network.forward(self._changed(images), *rest)

    def features(self, images: Tensor) -> Any:
        """The network's own ``features``."""
        return self.network.features(self._changed(images))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


# ---------------------------------------------------------------------------------------------------------------------
# changes: pure functions of the images and of numbers [B, UNIFORM] in [0, 1) and [B, NORMAL]


def diffaugment(images: Tensor, uniform: Tensor) -> Tensor:
    """Colour, translation and cutout (section 3 and the authors' strengths)."""
    height, width = images.shape[2:]
    u = uniform.t()
    x = images + _each(u[0] - 0.5)
    x = _about(x, x.mean(dim=1, keepdim=True), 2 * u[1])
    x = _about(x, x.mean(dim=(1, 2, 3), keepdim=True), u[2] + 0.5)
    moves = [_shift(side, at) for side, at in ((height, u[3]), (width, u[4]))]
    x = _resampled(x, *moves)
    rows, columns = (_cut(side, at) for side, at in ((height, u[5]), (width, u[6])))
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0.0, x)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _about(x: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    return (x - middle) * _each(factor) + middle


def _shift(side: int, u: Tensor) -> Tensor:
    """Matrices [B, side, side] that move a side by up to ``SHIFT`` of it; beyond the border is 0."""
    most = int(side * SHIFT + 0.5)
    by = (u * (2 * most + 1)).floor() - most
    places = torch.arange(side, device=u.device)
    return ((places[None, :] - places[:, None])[None] == by.view(-1, 1, 1)).to(u.dtype)


def _cut(side: int, u: Tensor) -> Tensor:
    """The places [B, side] that lie in a square whose middle is anywhere."""
    length = int(side * CUTOUT + 0.5)
    first = (u * (side + 1 - length % 2)).floor() - length // 2
    places = torch.arange(side, device=u.device) - first.view(-1, 1)
    return (places >= 0) & (places < length)


def _resampled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows [B, H, H] and columns [B, W, W] of images [B, C, H, W] mixed: products alone, which any gradient goes through."""
    return rows.unsqueeze(1) @ x @ columns.transpose(1, 2).unsqueeze(1)


def ada(images: Tensor, uniform: Tensor, normal: Tensor, p: Tensor) -> Tensor:
    """Each transformation of appendix B, figure 17, that is had here, with probability p."""
    height, width = images.shape[2:]
    u, g = uniform.t(), normal.t()

    def maybe(which: int, value: Tensor, otherwise: float) -> Tensor:
        return torch.where(u[which] < p, value, otherwise)

    turns = maybe(0, (4 * u[10]).floor(), 0) if height == width else torch.zeros_like(u[0])
    mirror_rows, mirror_columns = (turns == 1) | (turns == 2), (turns == 2) | (turns == 3)
    mirror_columns = mirror_columns ^ (maybe(1, (2 * u[11]).floor(), 0) == 1)
    scale, stretch = (maybe(which, 2 ** (SCALE_SD * g[which]), 1) for which in (2, 3))
    x = (
        torch.where(_each(turns % 2 == 1), images.transpose(2, 3), images)
        if height == width
        else images
    )
    maps = []
    for side, mirrored, factor, by in (
        (height, mirror_rows, scale / stretch, 0),
        (width, mirror_columns, scale * stretch, 1),
    ):
        shift = maybe(4, ((2 * u[12 + by] - 1) * SHIFT_PIXELS * side).round(), 0)
        shift = shift + maybe(5, SHIFT_SD * side * g[4 + by], 0)
        maps.append(_bilinear(side, torch.where(mirrored, -1.0, 1.0) / factor, shift))
    x = (_resampled(x, *maps) + _each(maybe(6, BRIGHTNESS_SD * g[6], 0))) * _each(
        maybe(7, 2 ** (CONTRAST_SD * g[7]), 1)
    )
    if images.shape[1] != 3:
        return x
    angle = maybe(8, (2 * u[14] - 1) * math.pi, 0)
    flip = maybe(9, (2 * u[15]).floor(), 0)
    saturation = maybe(16, 2 ** (SATURATION_SD * g[0]), 1)
    return torch.einsum("bij,bjhw->bihw", _colours(flip, angle, saturation), x)


def _bilinear(side: int, factor: Tensor, shift: Tensor) -> Tensor:
    """Matrices [B, side, side] that read at ``factor`` times the distance from the middle, and ``shift`` further."""
    places = torch.arange(side, device=factor.device, dtype=factor.dtype)
    middle, last = (side - 1) / 2, max(side - 1, 1)
    at = middle + (places - middle) * factor.view(-1, 1) + shift.view(-1, 1)
    at = last - (at.remainder(2 * last) - last).abs()  # reflected at the borders
    return (1 - (at.unsqueeze(2) - places).abs()).clamp(min=0)


def _colours(flip: Tensor, angle: Tensor, saturation: Tensor) -> Tensor:
    """Matrices [B, 3, 3] of colours: luma negated, hue turned about the gray axis, colour strengthened."""
    one = torch.eye(3, dtype=angle.dtype, device=angle.device)
    gray, across = torch.full_like(one, 1 / 3), (one.roll(1, 0) - one.roll(-1, 0)) / math.sqrt(3)
    rest = one - gray
    cos, sin, strength, luma = (
        v.view(-1, 1, 1) for v in (angle.cos(), angle.sin(), saturation, 1 - 2 * flip)
    )
    return luma * gray + strength * (cos * rest + sin * across)
