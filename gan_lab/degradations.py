"""Degraded copies of images, the inputs of restoration: gray, with a hole, small, noisy, or edges.

The random numbers come from streams. Training has one stream per iteration, so an image is degraded
differently in each epoch. An evaluation has one stream per image, which depends on its pixels
alone: an image has the same hole or the same noise in every run, process, batch and grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from gan_lab.config.schema import DataConfig
from gan_lab.images import DegradationKind, ImageSpec, to_gray
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

STREAM_PURPOSE = "degradation"
# the sides of a random box differ by up to this factor
MAX_ASPECT_RATIO = 2.0
# an irregular hole is the highest part of a smooth random surface with this many knots per side
SURFACE_KNOTS = 6
# of an export: images are enlarged by it
MAX_EXPORTED_FACTOR = 64
# standard deviations are in gray levels, images in [-1, 1]
LEVELS_PER_UNIT = 127.5


@dataclass(frozen=True)
class Degradation:
    """Rule by which the inputs of a translation are made from its targets.

    Attributes:
        kind: The degradation.
        mask_shape: center: the middle; box: a random rectangle; irregular: random blobs.
        mask_share: Area of the hole as a share of the image.
        factor: Factor by which both sides are downsampled.
        sigma: Standard deviation of the noise, in gray levels.
    """

    kind: DegradationKind = "none"
    mask_shape: Literal["center", "box", "irregular"] = "box"
    mask_share: float = 0.25
    factor: int = 4
    sigma: float = 25.0

    @classmethod
    def from_config(cls, cfg: DataConfig) -> Degradation:
        """Read the keys under ``data:``."""
        return cls(
            cfg.degradation,
            cfg.mask_shape,
            cfg.mask_share,
            cfg.downsample_factor,
            cfg.noise_sigma,
        )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Degradation:
        """Read the flat config of a run, which may be older than some keys."""
        prefix = "data."
        known = {
            name: values[prefix + name] for name in DEGRADATION_KEYS if prefix + name in values
        }
        return cls.from_config(DataConfig(**known))

    @classmethod
    def from_record(cls, record: Any) -> Degradation:
        """Read the entry of an export, which is not trusted: unexpected values are left out."""
        record = record if isinstance(record, dict) else {}
        kind, factor = record.get("kind"), record.get("factor")
        if kind not in get_args(DegradationKind):
            return cls()
        is_factor = isinstance(factor, int) and not isinstance(factor, bool)
        if is_factor and 2 <= factor <= MAX_EXPORTED_FACTOR:
            return cls(kind, factor=factor)
        return cls(kind)

    def __bool__(self) -> bool:
        return self.kind != "none"

    def describe(self) -> str:
        """Describe kind and parameters in a few words."""
        details = {
            "mask": f" ({self.mask_shape}, {self.mask_share:.0%} of the image)",
            "downsample": f" ({self.factor} x, bicubic)",
            "noise": f" (sigma {self.sigma:g})",
        }
        return self.kind + details.get(self.kind, "")

    def describe_input(self) -> str:
        """Describe the inputs for a reader of a page; empty if the data set has its own."""
        return {
            "gray": "the image without its colors",
            "mask": f"the image with a hole of {self.mask_share:.0%} ({self.mask_shape})",
            "downsample": f"the image reduced {self.factor} times and enlarged by bicubic "
            "interpolation",
            "noise": f"the image with noise of {self.sigma:g} gray levels",
            "edges": "the edges of the image",
        }.get(self.kind, "")

    def describe_sources(self, spec: ImageSpec) -> ImageSpec:
        """Return the spec of degraded images and their originals.

        Raises:
            UserError: Such images cannot be degraded.
        """
        if spec.channels not in (1, 3):
            raise UserError(
                f"data.degradation={self.kind} needs gray or RGB images, but these have "
                f"{spec.channels} channels. Set data.degradation=none."
            )
        if self.kind == "downsample" and (spec.height % self.factor or spec.width % self.factor):
            raise UserError(
                f"data.downsample_factor={self.factor} does not divide {spec.height} x "
                f"{spec.width} pixels. Choose a divisor of data.size."
            )
        channels = {"gray": 1, "edges": 1, "mask": spec.channels + 1}.get(self.kind, spec.channels)
        content: Any = "photos" if spec.content == "horses" else spec.content
        return replace(
            spec, content=content, source_channels=channels, pairs="all", degradation=self.kind
        )

    def degrade_fixed(self, images: Tensor, pixels: Tensor) -> Tensor:
        """Degrade images for an evaluation: each by numbers that depend on its pixels alone.

        Args:
            images: Floats in [-1, 1], [B, C, H, W].
            pixels: The same images as the data set stores them.
        """
        streams: list[Stream] = []
        if self.is_random:
            streams = [Stream(0, STREAM_PURPOSE, hash_pixels(image)) for image in pixels]
        return self.degrade(images, streams)

    @property
    def is_random(self) -> bool:
        """True if two degraded copies of an image differ."""
        return self.kind == "noise" or (self.kind == "mask" and self.mask_shape != "center")

    def degrade(self, images: Tensor, streams: Sequence[Stream]) -> Tensor:
        """Degrade images.

        Args:
            images: Floats in [-1, 1], [B, C, H, W].
            streams: Random numbers; each stream serves an equal share of the images, in order.

        Returns:
            Floats in [-1, 1], [B, C', H, W]. Holes are 0, with their mask as one more channel: 1
            where a pixel is to be filled, -1 where it is known.
        """
        if self.kind == "gray":
            return to_gray(images)
        if self.kind == "edges":
            return draw_edges(images)
        if self.kind == "downsample":
            return upsample(shrink(images, self.factor), self.factor)
        if self.kind == "noise":
            noise = _draw(streams, "normal", images, *images.shape[1:])
            return (images + self.sigma / LEVELS_PER_UNIT * noise).clamp(-1, 1)
        assert self.kind == "mask"
        return cut_hole(images, self._draw_masks(images, streams))

    def _draw_masks(self, images: Tensor, streams: Sequence[Stream]) -> Tensor:
        """Draw the hole of each image, bool [B, 1, H, W]."""
        if self.mask_shape == "center":
            return draw_boxes(images, images.new_full((len(images), 3), 0.5), self.mask_share)
        if self.mask_shape == "box":
            return draw_boxes(images, _draw(streams, "uniform", images, 3), self.mask_share)
        knots = _draw(streams, "uniform", images, 1, SURFACE_KNOTS, SURFACE_KNOTS)
        return draw_blobs(knots, (images.shape[2], images.shape[3]), self.mask_share)


# the keys under data: that a degradation is made from
DEGRADATION_KEYS = ("degradation", "mask_shape", "mask_share", "downsample_factor", "noise_sigma")


def hash_pixels(image: Tensor) -> int:
    """Hash the pixels of an image to 64 bits."""
    content = image.contiguous().cpu().numpy().tobytes()
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _draw(
    streams: Sequence[Stream], distribution: Literal["normal", "uniform"], like: Tensor, *shape: int
) -> Tensor:
    """Draw numbers [B, *shape] for the images [B, ...], an equal share from each stream."""
    each = len(like) // len(streams) if streams else 0
    drawn = [getattr(stream, distribution)(each, *shape, like=like) for stream in streams]
    return torch.cat(drawn) if drawn else like.new_zeros(0, *shape)


def cut_hole(images: Tensor, masks: Tensor) -> Tensor:
    """Set masked pixels to 0 and append the mask as a channel: 1 in the hole, -1 elsewhere.

    Args:
        images: Floats in [-1, 1], [B, C, H, W].
        masks: Bool [B or 1, 1, H, W], True where a pixel is to be filled.
    """
    masks = masks.expand(len(images), -1, -1, -1)
    return torch.cat([images.masked_fill(masks, 0.0), 2.0 * masks.to(images.dtype) - 1.0], dim=1)


def draw_boxes(images: Tensor, numbers: Tensor, share: float) -> Tensor:
    """Draw one rectangle per image, bool [B, 1, H, W].

    Args:
        images: The images [B, C, H, W].
        numbers: [B, 3] in [0, 1): aspect ratio, vertical and horizontal position.
        share: Area of the rectangle as a share of the image.
    """
    height, width = images.shape[-2:]
    # no side exceeds the image
    limit = math.log(min(MAX_ASPECT_RATIO, 1 / share))
    ratio = ((2 * numbers[:, 0] - 1) * limit).exp()
    rows = (height * (share * ratio).sqrt()).round().clamp(1, height)
    columns = (width * (share / ratio).sqrt()).round().clamp(1, width)
    top = (numbers[:, 1] * (height - rows + 1)).floor()
    left = (numbers[:, 2] * (width - columns + 1)).floor()
    inside = [
        (place >= first[:, None]) & (place < (first + length)[:, None])
        for place, first, length in (
            (torch.arange(height, device=images.device), top, rows),
            (torch.arange(width, device=images.device), left, columns),
        )
    ]
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def draw_blobs(knots: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Draw irregular holes, bool [B, 1, H, W]: the highest share of a smooth random surface.

    Args:
        knots: Heights of the surface, [B, 1, K, K].
        size: Height and width of the images.
        share: Area of the hole as a share of the image, exact to one pixel.
    """
    surface = interpolate(knots, size, mode="bicubic", align_corners=True).flatten(1)
    count = max(1, round(share * surface.shape[1]))
    highest = surface.argsort(dim=1, descending=True, stable=True)[:, :count]
    masks = torch.zeros_like(surface, dtype=torch.bool).scatter_(1, highest, True)
    return masks.view(len(knots), 1, *size)


def shrink(images: Tensor, factor: int) -> Tensor:
    """Downsample images by bicubic interpolation with antialiasing, to 8 bits as in a file.

    Source: Keys 1981 (IEEE Transactions on Acoustics, Speech and Signal Processing 29 (6)), with
    a = -0.5, as in Pillow and in MATLAB's imresize.
    """
    size = (images.shape[-2] // factor, images.shape[-1] // factor)
    small = interpolate(images, size, mode="bicubic", antialias=True)
    levels = ((small.clamp(-1, 1) + 1) * LEVELS_PER_UNIT).round()
    return levels / LEVELS_PER_UNIT - 1


def upsample(images: Tensor, factor: int) -> Tensor:
    """Upsample images by bicubic interpolation, with the same kernel as ``shrink``."""
    size = (images.shape[-2] * factor, images.shape[-1] * factor)
    return interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)


def draw_edges(images: Tensor) -> Tensor:
    """Draw the edges of images as dark lines on white, [B, 1, H, W].

    The darkness is the length of the gradient by Sobel's operator: a vertical or horizontal step
    from black to white is black.
    """
    gray = pad(to_gray(images), (1, 1, 1, 1), mode="replicate")
    across = gray.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    length = conv2d(gray, kernels).square().sum(dim=1, keepdim=True).sqrt()
    return (1 - 2 * length).clamp(-1, 1)
