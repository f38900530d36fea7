"""Translated images against the truth: PSNR, SSIM, the gain over doing nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.formulas import Nearest, Statistics, psnr, squared_error

if TYPE_CHECKING:
    from gan_lab.data.base import GANDataModule
    from gan_lab.data.reference import Reference

SIGMA, HALF = 1.5, 5  # pixels, of the window of the structural similarity (Wang et al. 2004): 11 x 11
BLOCK = 200  # inputs that are looked for among those of the training at once


class Translation(Metric):
    """Translated images against their known counterparts, and there and back against where they came from.

    With ``inside`` source and truth differ inside a region alone (the animal): then that region, the rest of the image,
    and the gain over doing nothing are measured too. ``gain`` names are in dB. With ``pairs`` to learn from there are two
    baselines: the input as it is, and the answer to the training input that is nearest.
    """

    priority = 65  # after the distances: neither the hidden truth nor the mean error chooses a checkpoint
    needs_reals = True

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return bool(setting.spec.source_channels) and setting.spec.pairs != "none"

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        spec = setting.spec
        colours = spec.channels == 3 and spec.source_channels == 1
        inside = spec.content == "horses"
        return [cls(setting.output_names, inside=inside, gray=colours, pairs=spec.pairs == "all")]

    def __init__(self, output_names: tuple[str, ...], inside: bool, gray: bool, pairs: bool = False) -> None:
        self.inside, self.gray, self.ways = inside, gray, [""]
        if "back" in output_names:
            self.ways.append("back_")
        each = ["psnr", "ssim", *(["psnr_inside", "gain_inside", "psnr_outside"] if inside else [])]
        self.cycles = [way for way in self.ways if f"{way}cycled" in output_names]
        names = [way + name for way in self.ways for name in each]
        names += ["gain_over_mean_colour"] if gray else []
        names += [f"{way}cycle_psnr" for way in self.cycles]
        self.higher_is_better = dict.fromkeys(names, True)
        of = ("input", "nearest") if pairs else ("input",)
        self.baseline_names = tuple(f"{way}psnr_of_{what}" for way in self.ways for what in of)

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score.endswith("ssim"):
            return {"extractor": "pixels", "window": f"Gaussian, sigma {SIGMA}"}
        return {"extractor": "pixels"}

    def baselines(self, data: GANDataModule, reals: Reference) -> dict[str, float]:
        """PSNR of the inputs as they are, and, of pairs, of the training image whose input is nearest to each input."""
        truth, source = (
            torch.cat([_pixels(getattr(batch, kind)) for batch in reals]) for kind in ("images", "sources")
        )
        values: dict[str, float] = {}
        for way in self.ways:
            values[f"{way}psnr_of_input"] = psnr(squared_error(source, truth))
            if f"{way}psnr_of_nearest" in self.baseline_names:
                values[f"{way}psnr_of_nearest"] = psnr(squared_error(_nearest_answers(data, source, bool(way)), truth))
            truth, source = source, truth
        return values

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.sources is not None
        observed: Statistics = {}
        where = (batch.sources != batch.images).any(dim=1, keepdim=True) if self.inside else None
        for way in self.ways:
            generated = outputs["back" if way else "generated"]
            truth, source = (batch.sources, batch.images) if way else (batch.images, batch.sources)
            observed[f"{way}error"] = squared_error(generated, truth)
            observed[f"{way}ssim"] = _ssim(generated, truth)
            if where is not None:
                observed[f"{way}inside"] = squared_error(generated, truth, where)
                observed[f"{way}nothing"] = squared_error(source, truth, where)
                observed[f"{way}outside"] = squared_error(generated, truth, ~where)
            if way in self.cycles:
                observed[f"{way}cycled"] = squared_error(outputs[f"{way}cycled"], source)
        if self.gray:
            tint = (batch.images.double() - batch.sources.double()).flatten(2)
            observed["tint"] = torch.stack([tint.mean(dim=2), tint.square().mean(dim=2)], dim=2).cpu()
        return observed

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values: dict[str, float] = {}
        for way in self.ways:
            values[f"{way}psnr"] = psnr(fake[f"{way}error"])
            values[f"{way}ssim"] = float(fake[f"{way}ssim"].mean())
            if self.inside:
                values[f"{way}psnr_inside"] = psnr(fake[f"{way}inside"])
                values[f"{way}gain_inside"] = values[f"{way}psnr_inside"] - psnr(fake[f"{way}nothing"])
                values[f"{way}psnr_outside"] = psnr(fake[f"{way}outside"])
        if self.gray:  # the input tinted by the mean colour of these very images is the baseline
            mean, square = fake["tint"].mean(dim=0).unbind(dim=1)
            baseline = torch.tensor([[float((square - mean.square()).mean()), 1.0]])
            values["gain_over_mean_colour"] = values["psnr"] - psnr(baseline)
        return values | {f"{way}cycle_psnr": psnr(fake[f"{way}cycled"]) for way in self.cycles}


def _pixels(images: Tensor) -> Tensor:
    return to_uint8(images).cpu()


def _nearest_answers(data: GANDataModule, sources: Tensor, back: bool) -> Tensor:
    """For each input [B, C, H, W] the image of the training pair whose input is nearest, by its pixels.

    ``back``: what are images else are the inputs.
    """
    kinds = ("sources", "images") if back else ("images", "sources")
    train, answers = data.reference(sys.maxsize, split="learned"), []
    for block in sources.split(BLOCK):
        found = Nearest(block.flatten(1).double())
        for batch in train:
            found.add(_pixels(getattr(batch, kinds[1])).flatten(1).double())
        pairs = data.in_range(data.train.__getitems__(train.rows[found.numbers[:, 0].numpy()].tolist()))
        answers.append(_pixels(getattr(pairs, kinds[0])))
    return torch.cat(answers)


def _ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image [B], over the places where the whole of a Gaussian window lies in the image.

    Source: Wang et al. 2004 (IEEE Transactions on Image Processing 13 (4)), section III.B.
    """
    half = min(HALF, (min(images.shape[-2:]) - 1) // 2)
    window = {"gaussian_weights": True, "sigma": SIGMA * half / HALF, "win_size": 2 * half + 1}
    pairs = zip(images.cpu().numpy(), truth.cpu().numpy(), strict=True)
    every = [
        structural_similarity(*pair, channel_axis=0, data_range=255, use_sample_covariance=False, **window)
        for pair in pairs
    ]
    return torch.tensor(every, dtype=torch.float64)


METRIC = Translation
