"""Does a generator copy? Its samples beside the training images that are nearest to them, and how near that is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_lab.config.schema import MetricsConfig
from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics.evaluator import real_statistics
from gan_lab.metrics.feature_distance import FeatureDistance
from gan_lab.metrics.formulas import nearest
from gan_lab.seeding import Stream

FAKES = 500  # samples that are looked at


def nearest_ratio(fake: Tensor, train: Tensor, held_out: Tensor) -> float | None:
    """Distance of fakes to training images relative to held-out images: 1 for fresh images, towards 0 for copies.

    The ratio of the median distances to the nearest training and the nearest held-out image, over the same ratio of
    training images to the others of theirs, which takes out that there are more of the ones than of the others.
    Features are [N, D]; at most ``FAKES`` training images stand for all. None where most training images have a double,
    and so no distance to compare with.
    """

    def usual_distance(points: Tensor, others: Tensor, k: int = 1) -> Tensor:
        return nearest(points, others, k)[0][:, -1].median()

    points = train[:FAKES]
    usual = [usual_distance(points, train, k=2), usual_distance(points, held_out)]  # of its own the first is itself
    if min(usual) <= 1e-5 * points.norm(dim=1).median():
        return None
    distances = [usual_distance(fake, others) for others in (train, held_out)]
    return float(distances[0] / distances[1].clamp(min=1e-12) / (usual[0] / usual[1]))


@torch.no_grad()
def find_neighbours(
    family: Family, data: GANDataModule, metric: FeatureDistance, cfg: MetricsConfig, seed: int, shown: int = 32
) -> tuple[float | None, dict[str, Any], Tensor]:
    """The ratio, its protocol, and pairs [2 shown, C, H, W] in [-1, 1]: samples, the nearest first, and their neighbours.

    At most ``metrics.max_features_kept`` training images are looked through.
    """
    reference = data.reference(min(FAKES, cfg.num_images), split="held_out")
    train = data.reference(cfg.max_features_kept, split="train")
    held_out = data.reference(cfg.max_features_kept, split="held_out")
    known = real_statistics(data, train, metric, family.device, cfg)["features"].double()
    fresh = real_statistics(data, held_out, metric, family.device, cfg)["features"].double()
    pixels, features = [], []
    for i in range(len(reference)):
        batch = reference.conditions(i).on(family.device, family.dtype)
        pixels.append(to_uint8(family.generate(batch, Stream(seed, "evaluate", i))))
        features.append(metric.extractor(pixels[-1])[0].double().cpu())
    fake, images = torch.cat(features), torch.cat(pixels).cpu()
    distances, numbers = nearest(fake, known, k=1)
    first = distances[:, 0].argsort()[:shown]
    reals = data.train.__getitems__(train.rows[numbers[first, 0].numpy()].tolist()).images
    pairs = torch.stack([to_unit(images[first]), to_unit(reals)], dim=1).flatten(0, 1)
    protocol = {**metric.extractor_protocol, "reals": len(fresh), "train": len(known), "fakes": len(fake)}
    return nearest_ratio(fake, known, fresh), protocol, pairs
