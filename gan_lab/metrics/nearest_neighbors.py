"""Does a generator copy? Its samples beside the training images that are nearest to them, and how near that is."""

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
from gan_lab.metrics.formulas import Nearest, nearest
from gan_lab.seeding import Stream

FAKES = 500  # samples that are looked at; and training images that stand for all
KEPT = 2**25  # features of a set that are kept: 256 MB
NEAR = 0.01  # of held-out images are as near to a training image as what is called a near copy


def nearest_ratio(fake: Nearest, train: Nearest, fake_fresh: Tensor, train_fresh: Tensor) -> float | None:
    """Distance of fakes to training images relative to held-out images: 1 for fresh images, towards 0 for copies.

    The ratio of the median distances to the nearest training and the nearest held-out image, over the same ratio of
    training images to the others of theirs, which takes out that there are more of the ones than of the others. Above 1
    fakes are far from training images and not as far from held-out ones: they are off the data, not fresher than fresh.
    ``train`` are the two nearest training images of some of them, the first of which is itself; ``..._fresh`` the
    distances [N] to the nearest held-out image. None where most training images have a double, and so no distance to
    compare with.
    """
    usual = [train.distances[:, -1].median(), train_fresh.median()]
    if min(usual) <= 1e-5 * train.points.norm(dim=1).median():
        return None
    ratio = fake.distances[:, 0].median() / fake_fresh.median().clamp(min=1e-12)
    return float(ratio / (usual[0] / usual[1]))


def near_share(fake: Tensor, held_out: Tensor) -> float:
    """The share of fakes nearer to a training image than all but the nearest hundredth of held-out images are.

    Both are distances [N] to the nearest training image. Of copies it is 1, of fresh images 0.01.
    """
    return float((fake <= held_out.quantile(NEAR)).double().mean())


@torch.no_grad()
def draw_samples(family: Family, data: GANDataModule, seed: int, purpose: str) -> Tensor:
    """``FAKES`` samples as pixels uint8 [N, C, H, W] on the CPU, asked for what the reals of the test part are."""
    asked_for, pixels = data.reference(FAKES).wrapped(0, FAKES), []
    for i in range(len(asked_for)):
        batch = asked_for.conditions(i).on(family.device, family.dtype)
        pixels.append(to_uint8(family.generate(batch, Stream(seed, purpose, i))).cpu())
    return torch.cat(pixels)


@torch.no_grad()
def find_neighbours(
    family: Family, data: GANDataModule, extractor: Extractor, seed: int, shown: int = 32
) -> tuple[dict[str, float], dict[str, Any], Tensor]:
    """The scores, their protocol, and pairs [2 shown, C, H, W] in [-1, 1]: samples, the nearest first, and their neighbours.

    All training images are looked through, one batch after the other.
    """
    every = sys.maxsize
    held_out = [data.reference(every, split=split) for split in (["validation", "test"] if data.divided else ["test"])]
    train, some = data.reference(every, split="learned"), data.reference(FAKES, split="learned")
    images = draw_samples(family, data, seed, "neighbours")
    device = family.device
    fake = torch.cat([_features(extractor, part.to(device)) for part in images.split(100)])
    fresh = torch.cat([block for part in held_out for block in _blocks(extractor, part, device)])
    known = torch.cat(list(_blocks(extractor, some, device)))
    of_fakes, of_fresh, of_train = Nearest(fake), Nearest(fresh), Nearest(known, k=2)
    for block in _blocks(extractor, train, device):
        for looked in (of_fakes, of_fresh, of_train):
            looked.add(block)
    first = of_fakes.distances[:, 0].argsort()[:shown]
    reals = data.train.__getitems__(train.rows[of_fakes.numbers[first, 0].numpy()].tolist()).images
    pairs = torch.stack([to_unit(images[first]), to_unit(reals)], dim=1).flatten(0, 1)
    ratio = nearest_ratio(of_fakes, of_train, nearest(fake, fresh, 1)[0][:, 0], nearest(known, fresh, 1)[0][:, 0])
    values = {} if ratio is None else {f"nearest_ratio_{extractor.name}": ratio}
    values[f"near_copies_{extractor.name}"] = near_share(of_fakes.distances[:, 0], of_fresh.distances[:, 0])
    splits = "train, and all that is held out"
    protocol = {"reals": len(fresh), "train": of_fakes.seen, "fakes": len(fake), "split": splits}
    return values, extractor.protocol() | protocol, pairs


def _blocks(extractor: Extractor, reals: Reference, device: torch.device) -> Iterator[Tensor]:
    """The features of reals block by block; those of sets that are small enough are kept in the cache of the data."""

    def computed() -> Iterator[Tensor]:
        for batch in reals:
            yield _features(extractor, to_uint8(batch.images.to(device)))

    if len(reals.rows) * extractor.features > KEPT:
        yield from computed()
        return
    data = reals.data
    key = f"{extractor.protocol()}/{data.decoded.fingerprint}/{data.spec}/{reals.name}/{len(reals.rows)}/1"
    arrays, _ = decoded_once(data.cache, "features", key, lambda: {"features": torch.cat(list(computed())).numpy()})
    yield torch.from_numpy(arrays["features"])


def _features(extractor: Extractor, pixels: Tensor) -> Tensor:
    return extractor(pixels)[0].double().cpu()
