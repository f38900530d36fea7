"""Classification accuracy score: accuracy on reals of a classifier trained only on fakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import Adam

from gan_lab import seeding
from gan_lab.data.samplers import EndlessBatchSampler
from gan_lab.images import Batch, to_uint8, to_unit
from gan_lab.metrics.base import Metric, Setting, Statistics
from gan_lab.metrics.explanations import Explanation
from gan_lab.networks.classifier import Classifier

# Larger images are resized to this side in pixels, as the classifier is small.
MAX_SIDE = 32
MIN_IMAGES_PER_CLASS = 5
# training of the classifier with Adam
TRAINING_STEPS = 240
BATCH_SIZE = 50
LEARNING_RATE = 1e-3


class ClassificationAccuracyScore(Metric):
    """Accuracy on reals of a small convolutional network that is trained on labeled fakes.

    It drops when samples do not match their label and when they lack diversity. Real images do not
    reach 1 either: ``cas_of_reals`` is the score of the same number of training images with the
    same labels. Without five images of each class, real and generated, there is no score: with a
    single class every classifier is perfect.

    Source: Ravuri & Vinyals 2019 (arXiv 1905.10887), section 3.
    """

    priority = 60
    explanations: ClassVar[Mapping[str, Explanation]] = {
        "cas": Explanation(
            "Classification accuracy score",
            "Accuracy on real images of a classifier that was trained on generated images with "
            "their labels",
            True,
            "0 to 1; that of real training images is the reference",
        ),
        "cas_of_reals": Explanation(
            "Classification accuracy of real images",
            "Accuracy of the same classifier after training on real images, the reference of cas",
            None,
            "0 to 1",
        ),
    }
    limited_states = frozenset(("images", "labels"))
    reals_key = f"images of {MAX_SIDE}"

    @classmethod
    def applies(cls, setting: Setting) -> bool:
        return setting.final and setting.conditional

    @classmethod
    def create(cls, setting: Setting) -> list[Metric]:
        return [cls(setting.spec.classes, setting.cfg.max_features_kept)]

    def __init__(self, classes: int, cap: int) -> None:
        self.classes, self.cap = classes, cap
        self.higher_is_better = {"cas": True}
        self.reference_names = {"cas": "cas_of_reals"}

    def update_fake(self, outputs: dict[str, Tensor], batch: Batch) -> Statistics:
        return self.update_real(batch._replace(images=outputs["generated"]))

    def update_real(self, batch: Batch) -> Statistics:
        assert batch.labels is not None
        images = batch.images
        if max(images.shape[-2:]) > MAX_SIDE:
            images = to_uint8(
                interpolate(to_unit(images), (MAX_SIDE, MAX_SIDE), mode="bilinear", antialias=True)
            )
        return {"images": images.cpu(), "labels": batch.labels.cpu()}

    def compute(self, real: Statistics, fake: Statistics) -> dict[str, float]:
        for part in (real, fake):
            counts = torch.bincount(part["labels"].long(), minlength=self.classes)
            if counts.min() < MIN_IMAGES_PER_CLASS:
                return {}
        with torch.random.fork_rng(devices=[]):
            seeding.seed_torch(0, "classification accuracy score")
            network = Classifier(
                shape=fake["images"].shape[1:], classes=self.classes, width=16, hidden=64
            )
        optimizer = Adam(network.parameters(), LEARNING_RATE)
        n = len(fake["images"])
        order = EndlessBatchSampler(
            n, BATCH_SIZE, 0, 0, TRAINING_STEPS, purpose="classification accuracy score"
        )
        # evaluation runs under no_grad
        with torch.enable_grad():
            for rows in order:
                optimizer.zero_grad()
                cross_entropy(
                    network(to_unit(fake["images"][rows])), fake["labels"][rows]
                ).backward()
                optimizer.step()
        with torch.no_grad():
            predicted = torch.cat(
                [network(to_unit(images)).argmax(dim=1) for images in real["images"].split(500)]
            )
        return {"cas": float((predicted == real["labels"]).double().mean())}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        description = (
            f"convolutional, {TRAINING_STEPS} steps of {BATCH_SIZE} fakes, "
            f"images of at most {MAX_SIDE} pixels"
        )
        return {"extractor": "classifier", "classifier": description, "rows": min(n, self.cap)}


METRIC = ClassificationAccuracyScore
