"""Memorization: samples next to their nearest training images, and how near these are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gan_lab.data.base import GANDataModule
from gan_lab.data.cache import decoded_once
from gan_lab.data.reference import Reference
from gan_lab.families.base import Family
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.neighbor_search import NeighborSearch, find_nearest
from gan_lab.seeding import Stream

# samples to examine, and training images that represent all
FAKES = 500
# numbers of a set of features that are cached: 256 MB
MAX_CACHED_NUMBERS = 2**25
# share of held-out images that are as near to a training image as a near copy is
NEAR_COPY_QUANTILE = 0.01


def nearest_ratio(
    fake: NeighborSearch, train: NeighborSearch, fake_fresh: Tensor, train_fresh: Tensor
) -> float | None:
    """Compute the distance of fakes to training images relative to held-out images.

    It is 1 for new images and near 0 for copies: the ratio of the median distances to the nearest
    training and the nearest held-out image. Dividing by the same ratio of training images corrects
    for the different sizes of the two sets. Above 1, fakes are farther from training images than
    from held-out ones: they are off the data distribution.

    Args:
        fake: Nearest training image of each fake.
        train: Two nearest training images of some training images, the first of which is itself.
        fake_fresh: Distance of each fake to the nearest held-out image, [N].
        train_fresh: The same of these training images.

    Returns:
        The ratio; None if most training images have a duplicate, so that there is no distance to
        compare with.
    """
    train_to_train, train_to_fresh = train.distances[:, -1].median(), train_fresh.median()
    if min(train_to_train, train_to_fresh) <= 1e-5 * train.points.norm(dim=1).median():
        return None
    ratio = fake.distances[:, 0].median() / fake_fresh.median().clamp(min=1e-12)
    return float(ratio / (train_to_train / train_to_fresh))


def near_share(fake: Tensor, held_out: Tensor) -> float:
    """Compute the share of fakes that are nearer to a training image than 99% of held-out images.

    Both arguments are distances [N] to the nearest training image. It is 1 for copies, 0.01 for new
    images.
    """
    return float((fake <= held_out.quantile(NEAR_COPY_QUANTILE)).double().mean())


@torch.no_grad()
def draw_samples(family: Family, data: GANDataModule, seed: int, purpose: str) -> Tensor:
    """Draw ``FAKES`` samples, uint8 [N, C, H, W] on the CPU, with the labels of test images."""
    conditions = data.reference(FAKES).repeat_rows(0, FAKES)
    pixels = []
    for i in range(len(conditions)):
        batch = conditions.conditions(i).to_device(family.device, family.dtype)
        pixels.append(to_uint8(family.generate(batch, Stream(seed, purpose, i))).cpu())
    return torch.cat(pixels)


@torch.no_grad()
def find_neighbours(
    family: Family, data: GANDataModule, extractor: Extractor, seed: int, shown: int = 32
) -> tuple[dict[str, float], dict[str, Any], Tensor]:
    """Find the nearest training image of each sample, searching all training images.

    Returns:
        The scores, their protocol, and pairs of a sample and its neighbor, nearest first, as images
        [2 shown, C, H, W] in [-1, 1].
    """
    every = sys.maxsize
    held_out = [
        data.reference(every, split=split)
        for split in (["validation", "test"] if data.divided else ["test"])
    ]
    train, some = data.reference(every, split="learned"), data.reference(FAKES, split="learned")
    images = draw_samples(family, data, seed, "neighbours")
    device = family.device
    fake = torch.cat([_features(extractor, part.to(device)) for part in images.split(100)])
    fresh = torch.cat([block for part in held_out for block in _blocks(extractor, part, device)])
    known = torch.cat(list(_blocks(extractor, some, device)))
    of_fakes = NeighborSearch(fake)
    of_fresh = NeighborSearch(fresh)
    of_train = NeighborSearch(known, k=2)
    for block in _blocks(extractor, train, device):
        for search in (of_fakes, of_fresh, of_train):
            search.add(block)
    first = of_fakes.distances[:, 0].argsort()[:shown]
    reals = data.train.__getitems__(train.rows[of_fakes.indices[first, 0].numpy()].tolist()).images
    pairs = torch.stack([to_unit(images[first]), to_unit(reals)], dim=1).flatten(0, 1)
    fake_fresh, train_fresh = (find_nearest(points, fresh, 1)[0][:, 0] for points in (fake, known))
    ratio = nearest_ratio(of_fakes, of_train, fake_fresh, train_fresh)
    values = {} if ratio is None else {f"nearest_ratio_{extractor.name}": ratio}
    values[f"near_copies_{extractor.name}"] = near_share(
        of_fakes.distances[:, 0], of_fresh.distances[:, 0]
    )
    splits = "train, and all that is held out"
    protocol = {
        "reals": len(fresh),
        "train": of_fakes.rows_searched,
        "fakes": len(fake),
        "split": splits,
    }
    return values, extractor.protocol() | protocol, pairs


def _blocks(extractor: Extractor, reals: Reference, device: torch.device) -> Iterator[Tensor]:
    """Yield the features of reals block by block; those of small sets are cached with the data."""

    def computed() -> Iterator[Tensor]:
        for batch in reals:
            yield _features(extractor, to_uint8(batch.images.to(device)))

    if len(reals.rows) * extractor.features > MAX_CACHED_NUMBERS:
        yield from computed()
        return
    data = reals.data
    key = f"{extractor.protocol()}/{data.decoded.fingerprint}/{data.spec}/{reals.name}/{len(reals.rows)}/1"
    arrays, _ = decoded_once(
        data.cache, "features", key, lambda: {"features": torch.cat(list(computed())).numpy()}
    )
    yield torch.from_numpy(arrays["features"])


def _features(extractor: Extractor, pixels: Tensor) -> Tensor:
    return extractor(pixels)[0].double().cpu()
