"""Measures that compare image by image: with the known truth, with what was to be reconstructed, with the label."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_lab.images import Batch, to_unit
from gan_lab.metrics.base import Metric
from gan_lab.metrics.digits import load_digit_classifier
from gan_lab.metrics.extractors.base import weights_hash
from gan_lab.metrics.formulas import Statistics


def squared_error(images: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    """Of each image the sum of squared differences of pixels 0..255 and how many values were compared, [B, 2] float64.

    Images are uint8 [B, C, H, W], gray ones are compared with colour as gray; ``where`` is bool [B, 1, H, W].
    """
    difference = (images.double() - truth.double()).square()
    if where is None:
        count = torch.full((len(images),), float(difference[0].numel()), dtype=torch.float64, device=images.device)
    else:
        difference = difference * where
        count = where.flatten(1).sum(dim=1).double() * difference.shape[1]
    return torch.stack([difference.flatten(1).sum(dim=1), count], dim=1).cpu()


def psnr(error: Tensor) -> float:
    """10 log10(255² / mean squared error) in dB over all images together, of ``squared_error`` [N, 2]; at most 100."""
    total, count = error.sum(dim=0).tolist()
    return min(100.0, 10 * math.log10(255.0**2 / max(total / max(count, 1.0), 1e-12)))


class Translation(Metric):
    """Translated images against their known counterparts, and there and back against where they came from.

    With ``inside`` source and truth differ inside a region alone (the animal): then that region, the rest of the image,
    and the gain over doing nothing are measured too. ``gain`` names are in dB.
    """

    needs_reals = True

    def __init__(self, output_names: tuple[str, ...], inside: bool, gray: bool) -> None:
        self.inside, self.gray, self.ways = inside, gray, [""]
        if "back" in output_names:
            self.ways.append("back_")
        each = ["psnr", "ssim", *(["psnr_inside", "gain_inside", "psnr_outside"] if inside else [])]
        self.cycles = [way for way in self.ways if f"{way}cycled" in output_names]
        names = [way + name for way in self.ways for name in each]
        names += ["gain_over_mean_colour"] if gray else []
        names += [f"{way}cycle_psnr" for way in self.cycles]
        self.higher_is_better = dict.fromkeys(names, True)

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "pixels"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.sources is not None
        observed: Statistics = {}
        where = (batch.sources != batch.images).any(dim=1, keepdim=True) if self.inside else None
        for way in self.ways:
            made = outputs["back" if way else "generated"]
            truth, source = (batch.sources, batch.images) if way else (batch.images, batch.sources)
            observed[f"{way}error"] = squared_error(made, truth)
            observed[f"{way}ssim"] = _ssim(made, truth)
            if where is not None:
                observed[f"{way}inside"] = squared_error(made, truth, where)
                observed[f"{way}nothing"] = squared_error(source, truth, where)
                observed[f"{way}outside"] = squared_error(made, truth, ~where)
            if way in self.cycles:
                observed[f"{way}cycled"] = squared_error(outputs[f"{way}cycled"], source)
        if self.gray:
            tint = (batch.images.double() - batch.sources.double()).flatten(2)
            observed["tint"] = torch.stack([tint.mean(dim=2), tint.square().mean(dim=2)], dim=2).cpu()
        return observed

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
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


def _ssim(images: Tensor, truth: Tensor) -> Tensor:
    window = min(11, *(side - 1 + side % 2 for side in images.shape[-2:]))  # odd, and no larger than the image
    pair = images.double() / 255, truth.double() / 255
    similarity = structural_similarity_index_measure(
        *pair, data_range=1.0, kernel_size=window, gaussian_kernel=False, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(-1).cpu()


class Reconstruction(Metric):
    """Reconstructed images against the originals; of digits also whether they still show the same one."""

    needs_reals = True

    def __init__(self, digits: bool) -> None:
        names = [*(["reconstruction_accuracy"] if digits else []), "reconstruction_psnr"]
        self.higher_is_better = dict.fromkeys(names, True)
        self.classifier = load_digit_classifier() if digits else None

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score == "reconstruction_accuracy" and self.classifier:
            return {"extractor": "digits", "weights_sha256": weights_hash(self.classifier)}
        return {"extractor": "pixels"}

    @torch.no_grad()
    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        images = outputs["reconstructed"]
        observed = {"error": squared_error(images, batch.images)}
        if self.classifier:
            self.classifier.to(images.device)
            shown, before = (self.classifier(to_unit(x)).argmax(dim=1) for x in (images, batch.images))
            observed["kept"] = (shown == (before if batch.labels is None else batch.labels)).cpu()
        return observed

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        values = {"reconstruction_accuracy": float(fake["kept"].double().mean())} if "kept" in fake else {}
        return values | {"reconstruction_psnr": psnr(fake["error"])}


class ClassifierAccuracy(Metric):
    """The share of held-out images whose class a family's own classifier reads right; its baseline's beside it."""

    needs_reals = True

    def __init__(self, output_names: tuple[str, ...]) -> None:
        self.kinds = [kind for kind in ("", "baseline_") if f"{kind}logits" in output_names]
        # the baseline's is a yardstick
        self.higher_is_better = {f"{kind or 'test_'}accuracy": None if kind else True for kind in self.kinds}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "none"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.labels is not None
        return {kind: outputs[f"{kind}logits"].argmax(dim=1).eq(batch.labels).cpu() for kind in self.kinds}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        return {name: float(fake[kind].double().mean()) for name, kind in zip(self.names, self.kinds, strict=True)}


class CodeAccuracy(Metric):
    """The share of held-out images whose class a categorical code says that knows no labels.

    Each category stands for one class, by the matching of categories and classes that is right most often on these images.

    Source: Chen et al. 2016 (arXiv 1606.03657), section 7.2.
    """

    needs_reals = True

    def __init__(self) -> None:
        self.higher_is_better = {"code_accuracy": True}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "none", "matching": "one category for each class, the best on these images"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        assert batch.labels is not None
        return {"category": outputs["code_logits"].argmax(dim=1).cpu(), "label": batch.labels.cpu()}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        from scipy.optimize import linear_sum_assignment  # of no other family

        counts = torch.zeros(int(fake["category"].max()) + 1, int(fake["label"].max()) + 1, dtype=torch.int64)
        counts.index_put_(
            (fake["category"], fake["label"]), torch.ones(len(fake["label"]), dtype=torch.int64), accumulate=True
        )
        rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
        return {"code_accuracy": float(counts[rows, columns].sum() / len(fake["label"]))}
