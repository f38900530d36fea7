"""Base class of the public metrics, which compare two sets of images by extracted features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchmetrics
from torch import Tensor, nn

from gan_lab.metrics import extractors
from gan_lab.metrics.extractors.base import ModuleExtractor
from gan_lab.utils.errors import UserError


class ImageSetMetric(torchmetrics.Metric):
    """Extracts features from batches of real and fake images.

    Images are [N, C, H, W] with 1 or 3 channels, either uint8 in [0, 255] or, with
    ``normalize=True``, floats in [0, 1]. Floats without ``normalize`` and floats outside [0, 1] are
    rejected. Convert images in [-1, 1] by ``(images + 1) / 2``.

    The extractor is not a submodule, so a checkpoint that contains the metric does not contain the
    extractor's weights.

    Args:
        extractor: One of inception, lite0, lite0_mid, dinov2, clip, digits and random; or a module
            that maps the images, exactly as passed to ``update``, to features [N, D]. The metric
            uses a copy of the module in evaluation mode.
        weights: File with the extractor's weights. dinov2 and clip require it. inception downloads
            its weights if they are not on this machine. The other extractors ship with theirs.
        normalize: Whether float images in [0, 1] are accepted. uint8 images always are.
        reset_real_features: Whether ``reset`` also clears the real images. Set it to False if the
            real images stay the same in all epochs.
        **kwargs: Arguments of ``torchmetrics.Metric``, such as ``sync_on_compute``.

    Raises:
        UserError: The extractor is unknown, or its weights are missing or are those of another
            network.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        extractor: str | nn.Module = "inception",
        *,
        weights: str | Path | None = None,
        normalize: bool = False,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.extractor = extractors.resolve_extractor(extractor, weights)
        self.normalize = normalize
        self.reset_real_features = reset_real_features

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features [N, D] and, if the extractor has any, logits [N, classes].

        Raises:
            UserError: The images have another shape, type or range than documented.
        """
        if not isinstance(self.extractor, ModuleExtractor):
            images = to_pixels(images, self.normalize)
        return self.extractor(images)

    def reset(self) -> None:
        """Clear the states, those of real images only with ``reset_real_features``."""
        kept: dict[str, Any] = {}
        if not self.reset_real_features:
            for name in self._defaults:
                if name.startswith("real_"):
                    state = getattr(self, name)
                    # torchmetrics clears lists in place
                    kept[name] = list(state) if isinstance(state, list) else state
        super().reset()
        for name, state in kept.items():
            setattr(self, name, state)


def to_pixels(images: Tensor, normalize: bool) -> Tensor:
    """Convert images [N, C, H, W] to uint8: uint8 as they are, floats in [0, 1] with ``normalize``.

    Raises:
        UserError: The images have another shape, type or range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise UserError(
            f"Images have the shape {list(images.shape)}. Pass [N, C, H, W] with 1 or 3 channels."
        )
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise UserError(
            f"Images have the type {images.dtype}. Pass uint8 images in [0, 255], or floats in [0, "
            "1]."
        )
    if not normalize:
        raise UserError(
            f"Images have the type {images.dtype}, whose range is ambiguous. Pass uint8 images in "
            "[0, 255], or floats in [0, 1] with normalize=True."
        )
    low, high = images.min().item(), images.max().item()
    # also False for NaN
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"Images lie in [{low:.3g}, {high:.3g}], outside [0, 1], which normalize=True expects. "
            "Convert images in [-1, 1] by (images + 1) / 2."
        )
    return (images.float() * 255).round().to(torch.uint8)
