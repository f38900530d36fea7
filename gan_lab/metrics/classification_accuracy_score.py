"""Classification accuracy score: what a classifier that was trained on fakes alone makes of reals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import Adam

from gan_lab import seeding
from gan_lab.data.samplers import EndlessBatchSampler
from gan_lab.images import Batch, to_uint8, to_unit
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.formulas import Statistics
from gan_lab.networks.classifier import Classifier

SIDE = 32  # pixels, to which larger images are brought: it is a small classifier
FEWEST = 5  # images of each class, on average
STEPS, BATCH, RATE = 240, 50, 1e-3  # of the classifier, images in each, Adam's learning rate


class ClassificationAccuracyScore(Metric):
    """The share of reals whose class is read right by a small convolutional network trained on labelled fakes.

    It falls both when samples do not show what they were asked for and when they do not show all of it, but it is below
    1 of real images too: ``cas_of_reals`` is that of as many training images of the same classes. Left out where there
    are fewer than five images for each class.

    Source: Ravuri & Vinyals 2019 (arXiv 1905.10887), section 3.
    """

    priority = 60
    limited_states = frozenset(("images", "labels"))
    reals_key = f"images of {SIDE}"

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return setting.final and setting.conditional

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.spec.classes, setting.cfg.max_features_kept)]

    def __init__(self, classes: int, cap: int) -> None:
        self.classes, self.cap = classes, cap
        self.higher_is_better = {"cas": True}
        self.floor_names = {"cas": "cas_of_reals"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        return self.update_real(batch._replace(images=outputs["generated"]))

    def update_real(self, batch: Batch) -> Statistics:
        assert batch.labels is not None
        images = batch.images
        if max(images.shape[-2:]) > SIDE:
            images = to_uint8(interpolate(to_unit(images), (SIDE, SIDE), mode="bilinear", antialias=True))
        return {"images": images.cpu(), "labels": batch.labels.cpu()}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        if min(len(part["images"]) for part in (real, fake)) < FEWEST * self.classes:
            return {}
        with torch.random.fork_rng(devices=[]):
            seeding.seed_torch(0, "classification accuracy score")
            network = Classifier(shape=fake["images"].shape[1:], classes=self.classes, width=16, hidden=64)
        optimizer = Adam(network.parameters(), RATE)
        n = len(fake["images"])
        order = EndlessBatchSampler(n, BATCH, 0, 0, STEPS, purpose="classification accuracy score")
        with torch.enable_grad():  # an evaluation has it switched off
            for rows in order:
                optimizer.zero_grad()
                cross_entropy(network(to_unit(fake["images"][rows])), fake["labels"][rows]).backward()
                optimizer.step()
        with torch.no_grad():
            read = torch.cat([network(to_unit(images)).argmax(dim=1) for images in real["images"].split(500)])
        return {"cas": float((read == real["labels"]).double().mean())}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        description = f"convolutional, {STEPS} steps of {BATCH} fakes, images of at most {SIDE} pixels"
        return {"extractor": "classifier", "classifier": description, "rows": min(n, self.cap)}


METRIC = ClassificationAccuracyScore
