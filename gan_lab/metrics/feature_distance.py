"""Two sets of images compared by the features of an extractor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_lab.images import Batch
from gan_lab.metrics import formulas
from gan_lab.metrics.base import Metric
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.formulas import Statistics

MANIFOLD = ("precision", "recall", "density", "coverage")


class FeatureDistance(Metric):
    """Fréchet distance and inception-score formula; with ``full`` also kernel distance, precision, recall, density, coverage.

    A Fréchet distance is made of sums over the batches; those of ``full`` need rows, of which ``cap`` are kept, and are left
    out for five images or fewer. ``conditions``: the extractor's classes are the labels that the generator was asked for.
    """

    sum_states = frozenset(("count", "sum", "outer"))
    limited_states = frozenset(("features",))

    def __init__(self, extractor: Extractor, asked: bool, cap: int, full: bool) -> None:
        self.extractor, self.conditions, self.cap, self.full = extractor, asked, cap, full
        self.features = extractor.features
        self.several = [f"{name}_{extractor.name}" for name in MANIFOLD]
        higher: dict[str, bool | None] = {extractor.distance: False}
        higher |= {extractor.score: True} if extractor.score else {}
        higher |= {"label_accuracy": True} if asked else {}
        higher |= {extractor.kernel: False, **dict.fromkeys(self.several, True)} if full else {}
        self.higher_is_better = higher
        self.said = extractor.protocol()
        self.reals = str(self.said)

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        features, logits = self.extractor(outputs["generated"])
        observed = formulas.moments(features.cpu())
        if self.full:
            observed["features"] = features.cpu()
        if self.extractor.score and logits is not None:
            observed["logits"] = logits.cpu()
        if self.conditions:
            assert logits is not None
            assert batch.labels is not None
            observed["correct"] = logits.argmax(dim=1).eq(batch.labels).cpu()
        return observed

    def reference(self, batch: Batch) -> Statistics:
        features = self.extractor(batch.images)[0].cpu()
        return formulas.moments(features) | {"features": features}

    def scores(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        extractor = self.extractor
        values = {extractor.distance: formulas.frechet_distance(real, fake)}
        if extractor.score and len(fake["logits"]) >= extractor.splits:
            mean, spread = formulas.inception_score(fake["logits"], extractor.splits)
            values |= {extractor.score: mean} | ({f"{extractor.score}_sd": spread} if extractor.splits > 1 else {})
        if "correct" in fake:
            values["label_accuracy"] = float(fake["correct"].double().mean())
        if self.full and min(len(part["features"]) for part in (real, fake)) > formulas.NEIGHBOURS_DC:
            mean, spread = formulas.kernel_distance(real["features"], fake["features"])
            values |= {extractor.kernel: mean, f"{extractor.kernel}_sd": spread}
            shares = formulas.manifold(real["features"], fake["features"])
            values |= {name: shares[share] for name, share in zip(self.several, MANIFOLD, strict=True)}
        return values

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        if score == self.extractor.score:
            return self.said | {"splits": self.extractor.splits}
        if score == self.extractor.kernel:
            rows = min(n, self.cap)
            size = formulas.subset_size(rows)
            return self.said | {"subsets": formulas.SUBSETS, "subset_size": size, "rows": rows}
        if score in self.several:
            share = MANIFOLD[self.several.index(score)]
            neighbours = formulas.NEIGHBOURS_PR if share in MANIFOLD[:2] else formulas.NEIGHBOURS_DC
            return self.said | {"neighbours": neighbours, "rows": min(n, self.cap)}
        return self.said
