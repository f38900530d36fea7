"""Two sets of images compared by the features of an extractor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics import extractors, formulas
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.extractors.inception import missing
from gan_lab.metrics.formulas import Statistics
from gan_lab.utils.errors import UserError

ENOUGH = 10  # images for each feature, below which a Fréchet distance is mostly bias
FEWEST = 4  # images, below which there is no kernel distance
MANIFOLD = ("precision", "recall", "density", "coverage")


class FeatureDistance(Metric):
    """Fréchet or kernel distance and inception-score formula; with ``final`` both, precision, recall, density, coverage.

    A Fréchet distance is made of sums over the batches. Real images have one too, which grows with the features and
    falls with the number of images; where there are fewer than ten for each feature the kernel distance, which is
    unbiased, stands in its place. That and those of ``final`` need rows, of which ``cap`` are kept; the latter are left
    out for five images or fewer. ``conditions``: the extractor's classes are the labels that the generator was asked
    for.
    """

    priority = 50
    sum_states = frozenset(("count", "sum", "outer"))
    limited_states = frozenset(("features",))

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        spec, cfg = setting.spec, setting.cfg
        usual = [] if spec.content == "points" else [extractors.default(spec)]
        created: list[Metric] = []
        if setting.least < FEWEST and spec.content != "points":
            setting.notes.append(f"distances are left out: of {setting.least} images there is no distribution")
            return []
        for name in dict.fromkeys(cfg.extractors) or usual:
            if (name == "points") != (spec.content == "points"):
                raise UserError(f"metrics.extractors={name}: points are of the toy, and the toy has no images")
            extractor = extractors.load(name, cfg)
            conditions = name == "digits" and spec.content == "digits" and setting.conditional
            frechet = cfg.allow_small_n or setting.least >= ENOUGH * extractor.features
            frechet |= setting.final and name == "inception"
            if not frechet:
                setting.notes.append(
                    f"{extractor.distance} is left out: of {setting.least} images, fewer than {ENOUGH} for each of its "
                    f"{extractor.features} features, it is mostly bias; {extractor.kernel} has none, and stands in its "
                    "place; metrics.allow_small_n=true computes it all the same"
                )
            created.append(cls(extractor, conditions, cfg.max_features_kept, setting.final, frechet))
        if setting.final and spec.content != "points" and "inception" not in cfg.extractors:
            created += cls._inception(setting)
        return created

    @classmethod
    def _inception(cls, setting: Setting) -> list[Metric]:
        """FID, KID, IS and the like if their weights are at hand; else a note says why not.

        Few images are no reason: papers report a FID whatever its bias, and its floor stands beside it. Raises
        ValueError if ``metrics.inception_weights`` names a file that is not there or does not hold the weights.
        """
        cfg, why_not = setting.cfg, ""
        if cfg.inception_weights == "off":
            why_not = "metrics.inception_weights=off"
        elif cfg.inception_weights == "auto":
            why_not = missing()
        if not why_not:
            try:
                extractor = extractors.load("inception", cfg)
                return [cls(extractor, False, cfg.max_features_kept, final=True)]
            except ValueError as error:
                if cfg.inception_weights != "auto":
                    raise
                why_not = str(error)
        setting.notes.append(f"fid, kid and is are left out: {why_not}")
        return []

    def __init__(self, extractor: Extractor, conditions: bool, cap: int, final: bool, frechet: bool = True) -> None:
        self.extractor, self.conditions, self.cap, self.final = extractor, conditions, cap, final
        self.frechet, self.kernel = frechet, final or not frechet
        self.several = [f"{name}_{extractor.name}" for name in MANIFOLD]
        higher: dict[str, bool | None] = {extractor.distance: False} if frechet else {extractor.kernel: False}
        higher |= {extractor.score: True} if extractor.score else {}
        higher |= {"label_accuracy": True} if conditions else {}
        higher |= {extractor.kernel: False} if self.kernel else {}
        higher |= dict.fromkeys(self.several, True) if final else {}
        self.higher_is_better = higher
        self.extractor_protocol = extractor.protocol()
        self.reals_key = str(self.extractor_protocol)

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        features, logits = self.extractor(outputs["generated"])
        observed = formulas.moments(features.cpu())
        if self.kernel:
            observed["features"] = features.cpu()
        if self.extractor.score and logits is not None:
            observed["logits"] = logits.cpu()
        if self.conditions:
            assert logits is not None
            assert batch.labels is not None
            observed["correct"] = logits.argmax(dim=1).eq(batch.labels).cpu()
        return observed

    def update_real(self, batch: Batch) -> Statistics:
        features = self.extractor(batch.images)[0].cpu()
        return formulas.moments(features) | {"features": features}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        extractor = self.extractor
        values = {extractor.distance: formulas.frechet_distance(real, fake)} if self.frechet else {}
        if extractor.score and len(fake["logits"]) >= extractor.splits:
            mean, spread = formulas.inception_score(fake["logits"], extractor.splits)
            values |= {extractor.score: mean} | ({f"{extractor.score}_sd": spread} if extractor.splits > 1 else {})
        if "correct" in fake:
            values["label_accuracy"] = float(fake["correct"].double().mean())
        if self.kernel and extractor.sigma:
            values[extractor.kernel] = formulas.gaussian_distance(real["features"], fake["features"], extractor.sigma)
        elif self.kernel:
            mean, spread = formulas.kernel_distance(real["features"], fake["features"])
            values |= {extractor.kernel: mean, f"{extractor.kernel}_sd": spread}
        if self.final and min(len(part["features"]) for part in (real, fake)) > formulas.NEIGHBOURS_DC:
            shares = formulas.manifold(real["features"], fake["features"])
            values |= {name: shares[share] for name, share in zip(self.several, MANIFOLD, strict=True)}
        return values

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score == self.extractor.score:
            return self.extractor_protocol | {"splits": self.extractor.splits}
        if score == self.extractor.kernel:
            rows = min(n, self.cap)
            if self.extractor.sigma:
                return self.extractor_protocol | {"sigma": self.extractor.sigma, "rows": rows}
            size = formulas.subset_size(rows)
            return self.extractor_protocol | {"subsets": formulas.SUBSETS, "subset_size": size, "rows": rows}
        if score in self.several:
            share = MANIFOLD[self.several.index(score)]
            neighbours = formulas.NEIGHBOURS_PR if share in MANIFOLD[:2] else formulas.NEIGHBOURS_DC
            return self.extractor_protocol | {"neighbours": neighbours, "rows": min(n, self.cap)}
        return self.extractor_protocol


METRIC = FeatureDistance
