"""LPIPS of translated images to ground truth, if AlexNet's weights are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch, to_unit
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.extractors.base import expand_gray, weights_hash
from gan_lab.metrics.translation_scores import Translation

# Side in pixels. AlexNet's strides reduce smaller images to nothing.
MIN_SIDE = 64
# torchvision's weights, of which no other version exists.
WEIGHTS_FILE = "alexnet-owt-7be5be79.pth"


def is_available(height: int, width: int) -> bool:
    """Return True if AlexNet is in torch's hub folder and images are large enough.

    Nothing is downloaded.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
    return min(height, width) >= MIN_SIDE and file.is_file()


class LPIPS(Metric):
    """LPIPS with AlexNet from torchmetrics, averaged over the images.

    LPIPS is a weighted sum of squared distances between feature maps of unit length.

    Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1.
    """

    priority = 30
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "*lpips": Explanation(
            "Learned perceptual distance (LPIPS)",
            "Distance of AlexNet features between a translated image and its ground truth",
            False,
            "0 to about 1; 0 if equal",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return (
            setting.final
            and Translation.applies(setting)
            and is_available(setting.spec.height, setting.spec.width)
        )

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.output_names)]

    def __init__(self, output_names: tuple[str, ...]) -> None:
        # here, because it imports torchmetrics and torchvision
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        # The prefix is empty for source to target, "back_" for target to source.
        self.prefixes = ["", *(["back_"] if "back" in output_names else [])]
        self.higher_is_better = {f"{prefix}lpips": False for prefix in self.prefixes}
        self.network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net

    @torch.no_grad()
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.sources is not None
        self.network.to(batch.images.device)
        lpips: Statistics = {}
        for prefix in self.prefixes:
            generated = outputs["back" if prefix else "generated"]
            truth = batch.sources if prefix else batch.images
            lpips[prefix] = (
                self.network(to_unit(expand_gray(generated)), to_unit(expand_gray(truth)))
                .flatten()
                .cpu()
            )
        return lpips

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        return {f"{prefix}lpips": float(fake[prefix].double().mean()) for prefix in self.prefixes}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "lpips-alex", "weights_sha256": weights_hash(self.network)}


METRIC = LPIPS
