"""Restored images against trivial restorations of the same degraded images.

Holes are filled with the mean color, small images are enlarged without a network, and noise is left
or filtered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from gan_lab.degradations import Degradation, shrink
from gan_lab.images import Batch, to_uint8, to_unit
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.psnr import psnr, squared_error

# the trivial restorations of each kind of degradation, the best one first
TRIVIAL_METHODS = {
    "mask": ("mean_fill",),
    "downsample": ("bicubic", "nearest_pixel"),
    "noise": ("median_filter", "noisy"),
}


class Restoration(Metric):
    """Gains of a network over restorations without one, next to the PSNR of these, in dB."""

    # after the PSNR itself
    priority = 66
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "gain_over_mean_fill": Explanation(
            "Gain over the mean fill",
            "Improvement in PSNR inside the hole over the hole filled with the mean color of the "
            "known pixels, in dB",
            True,
            "0 for no better than without a network; 3 dB more is half the squared error",
        ),
        "psnr_of_mean_fill": Explanation(
            "PSNR of the mean fill",
            "Baseline: PSNR of the hole filled with the mean color of the known pixels, in dB",
            None,
            "0 to 100",
        ),
        "psnr_inside_of_mean_fill": Explanation(
            "PSNR of the mean fill inside the hole",
            "Baseline: PSNR of the hole filled with the mean color of the known pixels, "
            "in the hole alone, in dB",
            None,
            "0 to 100",
        ),
        "gain_over_bicubic": Explanation(
            "Gain over bicubic upsampling",
            "Improvement in PSNR over the small image enlarged by bicubic interpolation, in dB",
            True,
            "0 for no better than without a network; 3 dB more is half the squared error",
        ),
        "psnr_of_bicubic": Explanation(
            "PSNR of bicubic upsampling",
            "Baseline: PSNR of the small image enlarged by bicubic interpolation, in dB",
            None,
            "0 to 100",
        ),
        "gain_over_nearest_pixel": Explanation(
            "Gain over nearest upsampling",
            "Improvement in PSNR over the small image with each pixel repeated, in dB",
            True,
            "0 for no better than without a network; 3 dB more is half the squared error",
        ),
        "psnr_of_nearest_pixel": Explanation(
            "PSNR of nearest upsampling",
            "Baseline: PSNR of the small image with each pixel repeated, in dB",
            None,
            "0 to 100",
        ),
        "gain_over_median_filter": Explanation(
            "Gain over the median filter",
            "Improvement in PSNR over the noisy image after a median filter of 3 x 3 pixels, in dB",
            True,
            "0 for no better than without a network; 3 dB more is half the squared error",
        ),
        "psnr_of_median_filter": Explanation(
            "PSNR of the median filter",
            "Baseline: PSNR of the noisy image after a median filter of 3 x 3 pixels, in dB",
            None,
            "0 to 100",
        ),
        "gain_over_noisy": Explanation(
            "Gain over the noisy image",
            "Improvement in PSNR over the noisy image as it is, in dB",
            True,
            "0 for no better than without a network; 3 dB more is half the squared error",
        ),
        "psnr_of_noisy": Explanation(
            "PSNR of the noisy image",
            "Baseline: PSNR of the noisy image as it is, in dB",
            None,
            "0 to 100",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return setting.degradation.kind in TRIVIAL_METHODS

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.degradation)]

    def __init__(self, degradation: Degradation) -> None:
        self.degradation = degradation
        self.trivial = TRIVIAL_METHODS[degradation.kind]
        self.has_hole = degradation.kind == "mask"
        self.higher_is_better: dict[str, bool | None] = {}
        for name in self.trivial:
            self.higher_is_better[f"gain_over_{name}"] = True
            self.higher_is_better[f"psnr_of_{name}"] = None
            if self.has_hole:
                self.higher_is_better[f"psnr_inside_of_{name}"] = None

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "pixels"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        restored = {"generated": outputs["generated"]}
        restored |= {name: restore(name, batch, self.degradation.factor) for name in self.trivial}
        observed = {name: squared_error(images, batch.images) for name, images in restored.items()}
        if self.has_hole:
            where = find_hole(batch)
            observed |= {
                f"{name}_inside": squared_error(images, batch.images, where)
                for name, images in restored.items()
            }
        return observed

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values = {}
        region = "_inside" if self.has_hole else ""
        for name in self.trivial:
            values[f"psnr_of_{name}"] = psnr(fake[name])
            if self.has_hole:
                values[f"psnr_inside_of_{name}"] = psnr(fake[f"{name}_inside"])
            values[f"gain_over_{name}"] = psnr(fake[f"generated{region}"]) - psnr(
                fake[f"{name}{region}"]
            )
        return values


def find_hole(batch: Batch) -> Tensor:
    """Find the pixels of the holes of a batch of uint8 images, bool [B, 1, H, W]."""
    mask = batch.source_mask
    assert mask is not None
    return mask > 127


def restore(name: str, batch: Batch, factor: int) -> Tensor:
    """Restore degraded images without a network.

    Args:
        name: One of ``TRIVIAL_METHODS``.
        batch: Images and degraded sources, uint8.
        factor: The factor of downsampled sources.

    Returns:
        uint8 [B, C, H, W].
    """
    sources = batch.source_images
    if name == "mean_fill":
        known = ~find_hole(batch)
        count = known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        mean = (sources * known).double().sum(dim=(2, 3), keepdim=True) / count
        return torch.where(known, sources, mean.round().to(torch.uint8))
    if name == "nearest_pixel":
        small = shrink(to_unit(batch.images), factor)
        return to_uint8(interpolate(small, scale_factor=float(factor), mode="nearest"))
    if name == "median_filter":
        padded = pad(sources.float(), (1, 1, 1, 1), mode="replicate")
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        return windows.median(dim=4).values.to(torch.uint8)
    # the sources of downsampled images are upsampled already, those of noisy images are noisy
    return sources


METRIC = Restoration
