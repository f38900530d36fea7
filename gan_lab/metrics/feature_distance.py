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

ALLOW = "metrics.allow_small_n=true computes it all the same"
MANIFOLD = ("precision", "recall", "density", "coverage")


class FeatureDistance(Metric):
    """Fréchet distance and inception-score formula; with ``final`` also kernel distance, precision, recall, density,
    coverage.

    A Fréchet distance is made of sums over the batches; those of ``final`` need rows, of which ``cap`` are kept, and
    are left out for five images or fewer. ``conditions``: the extractor's classes are the labels that the generator was
    asked for.
    """

    priority = 50
    sum_states = frozenset(("count", "sum", "outer"))
    limited_states = frozenset(("features",))

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        spec, cfg = setting.spec, setting.cfg
        usual = [] if spec.content == "points" else [extractors.default(spec)]
        created: list[Metric] = []
        for name in dict.fromkeys(cfg.extractors) or usual:
            if (name == "points") != (spec.content == "points"):
                raise ValueError(f"metrics.extractors={name}: points are of the toy, and the toy has no images")
            if name == "inception" and cfg.inception_weights == "off":
                raise ValueError("metrics.extractors has inception, but metrics.inception_weights=off")
            extractor = extractors.load(name, *([cfg.inception_weights] if name == "inception" else []))
            conditions = name == "digits" and spec.content == "digits" and setting.conditional
            created.append(cls(extractor, conditions, cfg.max_features_kept, setting.final))
        if setting.final and spec.content != "points" and "inception" not in cfg.extractors:
            created += cls._inception(setting)
        return created

    @classmethod
    def _inception(cls, setting: Setting) -> list[Metric]:
        """FID, KID, IS and the like if their weights are at hand and images are enough; else a note says why not.

        Raises ValueError if ``metrics.inception_weights`` names a file that is not there or does not hold the weights.
        """
        cfg, n = setting.cfg, min(setting.cfg.num_images, setting.reals)
        why_not = ""
        if cfg.inception_weights == "off":
            why_not = "metrics.inception_weights=off"
        elif n < 2048 and not cfg.allow_small_n:
            why_not = f"{n} images are fewer than the 2048 features, which makes a FID meaningless; {ALLOW}"
        elif cfg.inception_weights == "auto":
            why_not = missing()
        if not why_not:
            try:
                extractor = extractors.load("inception", cfg.inception_weights)
                return [cls(extractor, False, cfg.max_features_kept, final=True)]
            except ValueError as error:
                if cfg.inception_weights != "auto":
                    raise
                why_not = str(error)
        setting.notes.append(f"fid, kid and is are left out: {why_not}")
        return []

    def __init__(self, extractor: Extractor, conditions: bool, cap: int, final: bool) -> None:
        self.extractor, self.conditions, self.cap, self.final = extractor, conditions, cap, final
        self.features = extractor.features
        self.several = [f"{name}_{extractor.name}" for name in MANIFOLD]
        higher: dict[str, bool | None] = {extractor.distance: False}
        higher |= {extractor.score: True} if extractor.score else {}
        higher |= {"label_accuracy": True} if conditions else {}
        higher |= {extractor.kernel: False, **dict.fromkeys(self.several, True)} if final else {}
        self.higher_is_better = higher
        self.extractor_protocol = extractor.protocol()
        self.reals_key = str(self.extractor_protocol)

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        features, logits = self.extractor(outputs["generated"])
        observed = formulas.moments(features.cpu())
        if self.final:
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
        values = {extractor.distance: formulas.frechet_distance(real, fake)}
        if extractor.score and len(fake["logits"]) >= extractor.splits:
            mean, spread = formulas.inception_score(fake["logits"], extractor.splits)
            values |= {extractor.score: mean} | ({f"{extractor.score}_sd": spread} if extractor.splits > 1 else {})
        if "correct" in fake:
            values["label_accuracy"] = float(fake["correct"].double().mean())
        if self.final and min(len(part["features"]) for part in (real, fake)) > formulas.NEIGHBOURS_DC:
            mean, spread = formulas.kernel_distance(real["features"], fake["features"])
            values |= {extractor.kernel: mean, f"{extractor.kernel}_sd": spread}
            shares = formulas.manifold(real["features"], fake["features"])
            values |= {name: shares[share] for name, share in zip(self.several, MANIFOLD, strict=True)}
        return values

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score == self.extractor.score:
            return self.extractor_protocol | {"splits": self.extractor.splits}
        if score == self.extractor.kernel:
            rows = min(n, self.cap)
            size = formulas.subset_size(rows)
            return self.extractor_protocol | {"subsets": formulas.SUBSETS, "subset_size": size, "rows": rows}
        if score in self.several:
            share = MANIFOLD[self.several.index(score)]
            neighbours = formulas.NEIGHBOURS_PR if share in MANIFOLD[:2] else formulas.NEIGHBOURS_DC
            return self.extractor_protocol | {"neighbours": neighbours, "rows": min(n, self.cap)}
        return self.extractor_protocol


METRIC = FeatureDistance
