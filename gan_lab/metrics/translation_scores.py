"""Translated images against ground truth: PSNR, SSIM, and the gain over the unchanged input."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.neighbor_search import NeighborSearch
from gan_lab.metrics.psnr import psnr, squared_error

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule
    from gan_lab.data.reference import Reference

# The Gaussian window of the structural similarity has 11 x 11 pixels (Wang et al. 2004).
WINDOW_SIGMA = 1.5
WINDOW_RADIUS = 5
# Number of inputs that are compared with all training inputs at a time.
INPUTS_PER_SEARCH = 200
# of the inputs whose searches share one pass over the training set
MAX_SEARCHED_BYTES = 200_000_000


class Translation(Metric):
    """Translated images against ground truth, and cycled images against their inputs.

    PSNR and gains are in dB.

    Args:
        output_names: Keys of ``Family.outputs()``.
        inside: Whether input and ground truth differ only inside a region: the animal, or a hole.
            If so, there are also scores of that region and of the rest of the image.
        holes: Whether the region is the hole of a mask. Otherwise there is also the gain over the
            unchanged input inside the region.
        gray: Whether gray inputs are translated to color.
        pairs: Whether there are training pairs. If so, the output of the nearest training input is
            a baseline, in addition to the unchanged input.
    """

    # After the distances, because a checkpoint must not be selected by the hidden ground truth.
    priority = 65
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "*psnr": Explanation(
            "Peak signal-to-noise ratio",
            "Similarity of the translated image to its ground truth, pixel by pixel, in dB",
            True,
            "0 to 100; 20 to 30 is usual, and 3 dB more is half the squared error",
        ),
        "*ssim": Explanation(
            "Structural similarity",
            "Similarity of local contrast and structure to the ground truth",
            True,
            "-1 to 1; 1 if equal",
        ),
        "*psnr_inside": Explanation(
            "PSNR inside the region",
            "PSNR of the pixels that the translation should change, in dB",
            True,
            "0 to 100",
        ),
        "*gain_inside": Explanation(
            "Gain inside the region",
            "PSNR inside the region minus that of the unchanged input, in dB",
            True,
            "0 for an unchanged input; more is a real change towards the ground truth",
        ),
        "*psnr_outside": Explanation(
            "PSNR outside the region",
            "PSNR of the pixels that the translation should leave unchanged, in dB",
            True,
            "0 to 100",
        ),
        "gain_over_mean_colour": Explanation(
            "Gain over the mean color",
            "PSNR minus that of the gray input, tinted by the mean color of the true images, in dB",
            True,
            "0 for a tint; more if colors are in the right places",
        ),
        "*cycle_psnr": Explanation(
            "PSNR of the cycle",
            "Similarity of an input to its translation there and back, in dB",
            True,
            "0 to 100",
        ),
        "*psnr_of_input": Explanation(
            "PSNR of the input", "Baseline: PSNR of the unchanged input, in dB", None, "0 to 100"
        ),
        "*psnr_of_nearest": Explanation(
            "PSNR of the nearest neighbor",
            "Baseline: PSNR of the target of the most similar training input, in dB",
            None,
            "0 to 100",
        ),
    }
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return bool(setting.spec.source_channels) and setting.spec.pairs != "none"

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        spec = setting.spec
        is_drawing = spec.degradation == "edges"
        gray = spec.channels == 3 and spec.source_channels == 1 and not is_drawing
        holes = spec.degradation == "mask"
        inside = holes or spec.content == "horses"
        pairs = spec.pairs == "all"
        return [cls(setting.output_names, inside=inside, gray=gray, pairs=pairs, holes=holes)]

    def __init__(
        self,
        output_names: tuple[str, ...],
        inside: bool,
        gray: bool,
        pairs: bool = False,
        holes: bool = False,
    ) -> None:
        self.inside = inside
        self.holes = holes
        self.gray = gray
        # The prefix is empty for source to target, "back_" for target to source.
        self.prefixes = [""]
        if "back" in output_names:
            self.prefixes.append("back_")
        scores = ["psnr", "ssim"]
        if inside:
            scores += ["psnr_inside", "psnr_outside"]
        if inside and not holes:
            scores.insert(3, "gain_inside")
        self.cycles = [prefix for prefix in self.prefixes if f"{prefix}cycled" in output_names]
        names = [prefix + score for prefix in self.prefixes for score in scores]
        # The name is stored in results, so its spelling stays.
        names += ["gain_over_mean_colour"] if gray else []
        names += [f"{prefix}cycle_psnr" for prefix in self.cycles]
        self.higher_is_better = dict.fromkeys(names, True)
        baselines = ("input", "nearest") if pairs else ("input",)
        self.baseline_names = tuple(
            f"{prefix}psnr_of_{baseline}" for prefix in self.prefixes for baseline in baselines
        )

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score.endswith("ssim"):
            return {"extractor": "pixels", "window": f"Gaussian, sigma {WINDOW_SIGMA}"}
        return {"extractor": "pixels"}

    def baselines(self, data: GANDataModule, reals: Reference) -> dict[str, float]:
        """Compute the PSNR of unchanged inputs and, for pairs, of the nearest training outputs."""
        truth, source = (
            torch.cat([_pixels(getattr(batch, kind)) for batch in reals])
            for kind in ("images", "source_images")
        )
        values: dict[str, float] = {}
        for prefix in self.prefixes:
            values[f"{prefix}psnr_of_input"] = psnr(squared_error(source, truth))
            if f"{prefix}psnr_of_nearest" in self.baseline_names:
                values[f"{prefix}psnr_of_nearest"] = psnr(
                    squared_error(_find_nearest_outputs(data, source, bool(prefix)), truth)
                )
            truth, source = source, truth
        return values

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.sources is not None
        observed: Statistics = {}
        where = None
        if self.holes:
            assert batch.source_mask is not None
            where = batch.source_mask > 127
        elif self.inside:
            where = (batch.sources != batch.images).any(dim=1, keepdim=True)
        for prefix in self.prefixes:
            generated = outputs["back" if prefix else "generated"]
            truth, source = (
                (batch.source_images, batch.images)
                if prefix
                else (batch.images, batch.source_images)
            )
            observed[f"{prefix}error"] = squared_error(generated, truth)
            observed[f"{prefix}ssim"] = _ssim(generated, truth)
            if where is not None:
                observed[f"{prefix}inside"] = squared_error(generated, truth, where)
                observed[f"{prefix}nothing"] = squared_error(source, truth, where)
                observed[f"{prefix}outside"] = squared_error(generated, truth, ~where)
            if prefix in self.cycles:
                observed[f"{prefix}cycled"] = squared_error(outputs[f"{prefix}cycled"], source)
        if self.gray:
            tint = (batch.images.double() - batch.sources.double()).flatten(2)
            observed["tint"] = torch.stack(
                [tint.mean(dim=2), tint.square().mean(dim=2)], dim=2
            ).cpu()
        return observed

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values: dict[str, float] = {}
        for prefix in self.prefixes:
            values[f"{prefix}psnr"] = psnr(fake[f"{prefix}error"])
            values[f"{prefix}ssim"] = float(fake[f"{prefix}ssim"].mean())
            if self.inside:
                values[f"{prefix}psnr_inside"] = psnr(fake[f"{prefix}inside"])
                if not self.holes:
                    values[f"{prefix}gain_inside"] = values[f"{prefix}psnr_inside"] - psnr(
                        fake[f"{prefix}nothing"]
                    )
                values[f"{prefix}psnr_outside"] = psnr(fake[f"{prefix}outside"])
        if self.gray:
            # baseline: the input tinted by the mean color of the same images
            mean, square = fake["tint"].mean(dim=0).unbind(dim=1)
            baseline = torch.tensor([[float((square - mean.square()).mean()), 1.0]])
            values["gain_over_mean_colour"] = values["psnr"] - psnr(baseline)
        return values | {
            f"{prefix}cycle_psnr": psnr(fake[f"{prefix}cycled"]) for prefix in self.cycles
        }


def _pixels(images: Tensor) -> Tensor:
    return to_uint8(images).cpu()


def _find_nearest_outputs(data: GANDataModule, sources: Tensor, back: bool) -> Tensor:
    """Find the output of the training pair whose input is nearest to each input [B, C, H, W].

    The distance is the one of the pixels. With ``back``, the images of the pairs are the inputs and
    the sources are the outputs.
    """
    kinds = ("source_images", "images") if back else ("images", "source_images")
    train = data.reference(sys.maxsize, split="learned")
    outputs = []
    # Reading the training set can take long, since its inputs may be degraded images: several
    # searches share it, as many as fit into memory.
    bytes_per_input = 8 * sources[0].numel()
    inputs = max(INPUTS_PER_SEARCH, MAX_SEARCHED_BYTES // bytes_per_input)
    for group in sources.split(inputs):
        searches = [
            NeighborSearch(block.flatten(1).double()) for block in group.split(INPUTS_PER_SEARCH)
        ]
        for batch in train:
            pixels = _pixels(getattr(batch, kinds[1])).flatten(1).double()
            for search in searches:
                search.add(pixels)
        for search in searches:
            pairs = data.in_range(
                data.train.__getitems__(train.rows[search.indices[:, 0].numpy()].tolist())
            )
            outputs.append(_pixels(getattr(pairs, kinds[0])))
    return torch.cat(outputs)


def _ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Compute the structural similarity (SSIM) of each image, [B].

    It is averaged over all positions of the window inside the image.

    Source: Wang et al. 2004 (IEEE Transactions on Image Processing 13 (4)), section III.B.
    """
    # here, because it imports much of SciPy
    from skimage.metrics import structural_similarity

    radius = min(WINDOW_RADIUS, (min(images.shape[-2:]) - 1) // 2)
    window = {
        "gaussian_weights": True,
        "sigma": WINDOW_SIGMA * radius / WINDOW_RADIUS,
        "win_size": 2 * radius + 1,
    }
    pairs = zip(images.cpu().numpy(), truth.cpu().numpy(), strict=True)
    values = [
        structural_similarity(
            *pair, channel_axis=0, data_range=255, use_sample_covariance=False, **window
        )
        for pair in pairs
    ]
    return torch.tensor(values, dtype=torch.float64)


METRIC = Translation
