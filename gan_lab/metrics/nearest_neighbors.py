"""Memorization: samples and their distances to the nearest training images."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import scipy
import torch
from torch import Tensor

from gan_lab.data.base import GANDataModule
from gan_lab.data.cache import decoded_once
from gan_lab.data.reference import Reference
from gan_lab.families.base import Family
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics.explanations import Explanation
from gan_lab.metrics.extractors.base import Extractor
from gan_lab.metrics.neighbor_search import DUPLICATE_DISTANCE, NeighborSearch, find_nearest
from gan_lab.seeding import Stream

logger = logging.getLogger("gan_lab")
# Number of samples to examine, and of training images that represent the training set.
MAX_FAKES = 500
# Larger sets of features than 256 MB are not cached.
MAX_CACHED_NUMBERS = 2**25
# With fewer, the closest held-out image is no estimate of a quantile of 1%.
MIN_HELD_OUT_IMAGES = 50
# A near copy is nearer to a training image than all but this share of the held-out images.
NEAR_COPY_QUANTILE = 0.01
EXPLANATIONS = {
    "near_copies_*": Explanation(
        "Near copies",
        "Share of samples that are nearer to a training image than 99% of held-out images: "
        "memorization",
        None,
        "0 to 1; about 0.01 for new images, 1 for copies",
    ),
    "nearest_ratio_*": Explanation(
        "Nearest-neighbor ratio",
        "Distance of samples to their nearest training images, relative to that of held-out images",
        None,
        "1 for new images, towards 0 for copies, more than 1 off the data distribution",
    ),
}


def nearest_ratio(
    fake: NeighborSearch,
    train: NeighborSearch,
    fake_to_held_out: Tensor,
    train_to_held_out: Tensor,
) -> float | None:
    """Compute the distance of fakes to training images relative to held-out images.

    It is the ratio of the median distances to the nearest training and the nearest held-out image:
    1 for new images and near 0 for copies. Dividing by the same ratio of training images corrects
    for the different sizes of the two sets. Above 1, fakes are farther from training images than
    from held-out ones: they are off the data distribution.

    Args:
        fake: Nearest training image of each fake.
        train: The two nearest training images of some training images; the first is the image
            itself.
        fake_to_held_out: Distance of each fake to the nearest held-out image, [N].
        train_to_held_out: Distance of each of these training images to the nearest held-out image.

    Returns:
        The ratio; None if most training images have a duplicate, so that there is no distance to
        compare with.
    """
    train_to_train = train.distances[:, -1].median()
    train_to_fresh = train_to_held_out.median()
    if (
        min(train_to_train, train_to_fresh)
        <= DUPLICATE_DISTANCE * train.points.norm(dim=1).median()
    ):
        return None
    ratio = fake.distances[:, 0].median() / fake_to_held_out.median().clamp(min=1e-12)
    return float(ratio / (train_to_train / train_to_fresh))


def near_share(fake: Tensor, held_out: Tensor, rounding: float = 0.0) -> float:
    """Compute the share of fakes that are nearer to a training image than 99% of held-out images.

    The share is 1 for copies; for new images see ``expect_near_share``.

    Args:
        fake: Distance of each fake to the nearest training image, [N].
        held_out: The same of the held-out images.
        rounding: Distances up to this value are those of equal images. If 1% of the held-out images
            are training images too, only copies count.
    """
    threshold = held_out.sort().values[_rank_threshold(len(held_out)) - 1].clamp(min=rounding)
    return float((fake <= threshold).double().mean())


def expect_near_share(fakes: int, held_out: int) -> tuple[float, float, float]:
    """Compute what ``near_share`` is for new images: its mean and its range of 95%.

    The k-th smallest of h held-out distances exceeds that of a new image with a mean probability of
    k / (h + 1). Among F images, the number of those that it exceeds has a beta-binomial
    distribution.
    """
    rank = _rank_threshold(held_out)
    distribution = scipy.stats.betabinom(fakes, rank, held_out + 1 - rank)
    low, high = (float(distribution.ppf(share)) / fakes for share in (0.025, 0.975))
    return rank / (held_out + 1), low, high


def _rank_threshold(held_out: int) -> int:
    """Return which of the held-out distances, counted from the smallest, is the threshold."""
    return max(1, int(NEAR_COPY_QUANTILE * (held_out + 1)))


@torch.no_grad()
def draw_samples(family: Family, data: GANDataModule, seed: int, purpose: str, n: int) -> Tensor:
    """Draw samples, uint8 [N, C, H, W] on the CPU, with the labels of test images."""
    conditions = data.reference(n).repeat_rows(0, n)
    pixels = []
    for i in range(len(conditions)):
        batch = conditions.conditions(i).to_device(family.device, family.dtype)
        pixels.append(to_uint8(family.generate(batch, Stream(seed, purpose, i))).cpu())
    return torch.cat(pixels)


@torch.no_grad()
def find_neighbors(
    family: Family,
    data: GANDataModule,
    extractor: Extractor,
    seed: int,
    shown: int = 32,
    fakes: int = MAX_FAKES,
) -> tuple[dict[str, float], dict[str, Any], Tensor]:
    """Find the nearest training image of each sample, searching all training images.

    Args:
        family: The family, with its generator's weights.
        data: The data.
        extractor: Extractor of the features that distances are measured in.
        seed: Seed of the samples.
        shown: Number of pairs to return.
        fakes: Number of samples.

    Returns:
        The scores, their protocol, and pairs of a sample and its neighbor, nearest first, as images
        [2 shown, C, H, W] in [-1, 1].
    """
    held_out_parts = [
        data.reference(sys.maxsize, split=split)
        for split in (["validation", "test"] if data.divided else ["test"])
    ]
    train = data.reference(sys.maxsize, split="learned")
    some_train = data.reference(MAX_FAKES, split="learned")
    # The stream is named as in earlier versions, so that a seed keeps its samples.
    images = draw_samples(family, data, seed, "neighbours", fakes)
    device = family.device
    fake = torch.cat([_features(extractor, part.to(device)) for part in images.split(100)])
    held_out = torch.cat(
        [block for part in held_out_parts for block in _blocks(extractor, part, device)]
    )
    known = torch.cat(list(_blocks(extractor, some_train, device)))
    fake_search = NeighborSearch(fake)
    held_out_search = NeighborSearch(held_out)
    train_search = NeighborSearch(known, k=2)
    for block in _blocks(extractor, train, device):
        for search in (fake_search, held_out_search, train_search):
            search.add(block)
    first = fake_search.distances[:, 0].argsort()[:shown]
    rows = train.rows[fake_search.indices[first, 0].numpy()].tolist()
    reals = data.train.__getitems__(rows).images
    pairs = torch.stack([to_unit(images[first]), to_unit(reals)], dim=1).flatten(0, 1)
    fake_to_held_out = find_nearest(fake, held_out, 1)[0][:, 0]
    train_to_held_out = find_nearest(known, held_out, 1)[0][:, 0]
    ratio = nearest_ratio(fake_search, train_search, fake_to_held_out, train_to_held_out)
    values = {} if ratio is None else {f"nearest_ratio_{extractor.name}": ratio}
    if len(held_out) >= MIN_HELD_OUT_IMAGES:
        values[f"near_copies_{extractor.name}"] = near_share(
            fake_search.distances[:, 0],
            held_out_search.distances[:, 0],
            rounding=DUPLICATE_DISTANCE * float(held_out.norm(dim=1).median()),
        )
    else:
        logger.info(
            f"Skipping near_copies_{extractor.name}: {len(held_out)} held-out images are fewer "
            f"than {MIN_HELD_OUT_IMAGES}, which its threshold needs"
        )
    protocol = {
        "reals": len(held_out),
        "train": fake_search.rows_searched,
        "fakes": len(fake),
        "split": "train, and all that is held out",
    }
    return values, extractor.protocol() | protocol, pairs


def _blocks(extractor: Extractor, reals: Reference, device: torch.device) -> Iterator[Tensor]:
    """Yield the features of reals block by block; those of small sets are cached with the data."""

    def compute() -> Iterator[Tensor]:
        for batch in reals:
            yield _features(extractor, to_uint8(batch.images.to(device)))

    if len(reals.rows) * extractor.features > MAX_CACHED_NUMBERS:
        yield from compute()
        return
    data = reals.data
    key = (
        f"{extractor.protocol()}/{data.decoded.fingerprint}/{data.spec}/{reals.name}/"
        f"{len(reals.rows)}/1"
    )
    arrays, _ = decoded_once(
        data.cache, "features", key, lambda: {"features": torch.cat(list(compute())).numpy()}
    )
    yield torch.from_numpy(arrays["features"])


def _features(extractor: Extractor, pixels: Tensor) -> Tensor:
    return extractor(pixels)[0].double().cpu()
