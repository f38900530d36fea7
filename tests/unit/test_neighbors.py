"""Nearest neighbors: copies of training images are counted exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data.base import GANDataModule
from gan_lab.images import Batch, to_unit
from gan_lab.metrics import extractors, neighbor_search
from gan_lab.metrics.nearest_neighbors import (
    MAX_FAKES,
    expect_near_share,
    find_neighbors,
    near_share,
)
from gan_lab.metrics.neighbor_search import NeighborSearch, find_nearest
from gan_lab.seeding import Stream
from tests.helpers.logs import logged


class Copying:
    """A generator that copies a share of its samples from all over the training set.

    The others are held-out images.
    """

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, data: GANDataModule, copies: int) -> None:
        rng = np.random.default_rng(0)
        fresh = rng.permutation(len(data.held_out))[: MAX_FAKES - copies]
        learned = rng.permutation(len(data.train))[:copies]
        parts = [
            data.train.__getitems__(learned.tolist()).images,
            data.held_out.__getitems__(fresh.tolist()).images,
        ]
        self.images, self.at = to_unit(torch.cat(parts)), 0

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        n = len(batch.images)
        self.at += n
        return self.images[self.at - n : self.at]


@pytest.fixture(scope="module")
def digits(data_root: Path) -> GANDataModule:
    return datasets.load(DataConfig(source="sample", root=str(data_root)), 0)


@pytest.mark.parametrize("extractor", ["digits", "random"])
@pytest.mark.parametrize("share", [0, 5, 20, 40, 100])
def test_near_copies_is_share_of_copies(share: int, extractor: str, digits: GANDataModule) -> None:
    """The share of near copies equals the share of copies among the samples."""
    family: Any = Copying(digits, MAX_FAKES * share // 100)
    values, protocol, _ = find_neighbors(family, digits, extractors.load(extractor), seed=0)
    assert values[f"near_copies_{extractor}"] == pytest.approx(share / 100, abs=0.04)
    assert (
        protocol["train"] == len(digits.train) == 3700
    )  # all of them, whatever metrics.max_features_kept is
    if share == 100:
        assert values[f"nearest_ratio_{extractor}"] == pytest.approx(0, abs=1e-3)


def test_near_copies_use_images_of_training(data_root: Path) -> None:
    """With ``data.images``, only the images that were learned from count as copies."""
    few = datasets.load(DataConfig(source="sample", root=str(data_root), images=100), 0)
    learned = {row.numpy().tobytes() for row in few.train.__getitems__(list(range(100))).images}
    every = few.all_train.__getitems__(list(range(1_000))).images
    others = torch.stack([image for image in every if image.numpy().tobytes() not in learned])[
        :MAX_FAKES
    ]
    digits = extractors.load("digits")
    for images, low, high in (
        (few.train.__getitems__([*range(100)] * 5).images, 0.96, 1),
        (others, 0, 0.05),
    ):
        made: Any = Copying(few, 0)
        made.images = to_unit(images)
        values, protocol, _ = find_neighbors(made, few, digits, seed=0)
        assert low <= values["near_copies_digits"] <= high
        assert protocol["train"] == 100


@pytest.mark.parametrize("columns", [4, 10_000])
def test_block_search_finds_nearest_of_all(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search block by block, each in blocks of its own, finds the nearest among all rows."""
    monkeypatch.setattr(neighbor_search, "BLOCK_OTHERS", columns)
    draws = torch.Generator().manual_seed(0)
    points, others = (torch.randn(n, 5, generator=draws, dtype=torch.float64) for n in (7, 23))
    looked = NeighborSearch(points, k=2)
    for block in others.split(6):
        looked.add(block)
    distances, numbers = find_nearest(points, others, k=2)
    assert torch.allclose(looked.distances, distances)
    assert torch.equal(looked.indices, numbers)
    assert looked.rows_searched == 23


def test_near_share_uses_order_statistic_of_held_out_images() -> None:
    """A near copy is as close as the first of 100, or the second of 200 held-out images."""
    held_out = torch.arange(1.0, 101.0)
    assert near_share(torch.tensor([0.0, 1.0, 1.1, 50.0]), held_out) == 0.5
    assert near_share(torch.tensor([0.0, 2.0, 2.1, 50.0]), torch.arange(1.0, 201.0)) == 0.5


def test_near_share_of_copies_is_one_among_duplicated_reals() -> None:
    """With held-out images in the training set the threshold is not a rounding error."""
    draws = torch.Generator().manual_seed(0)
    noise = 1e-6 * torch.rand(500, generator=draws)
    held_out = torch.cat([1e-6 * torch.rand(20, generator=draws), torch.ones(80)])
    assert near_share(noise, held_out) < 1
    assert near_share(noise, held_out, rounding=1e-5) == 1
    assert near_share(torch.full((10,), 0.5), held_out, rounding=1e-5) == 0


@pytest.mark.parametrize("held_out", [50, 100, 650])
def test_near_share_of_new_images_is_as_expected(held_out: int) -> None:
    """Simulated new images have the stated mean, and 95% of them lie in the stated range."""
    draws = torch.Generator().manual_seed(held_out)
    fakes, repeats = 500, 2000
    shares = torch.tensor(
        [
            near_share(torch.rand(fakes, generator=draws), torch.rand(held_out, generator=draws))
            for _ in range(repeats)
        ]
    )
    mean, low, high = expect_near_share(fakes, held_out)
    assert float(shares.mean()) == pytest.approx(mean, abs=4 * float(shares.std()) / repeats**0.5)
    assert 0.93 <= float(((shares >= low) & (shares <= high)).double().mean()) <= 0.99


def test_near_copies_are_skipped_with_few_held_out_images(
    data_root: Path, digits: GANDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer than 50 held-out images the log says that near copies are skipped."""
    monkeypatch.setattr("gan_lab.metrics.nearest_neighbors.MIN_HELD_OUT_IMAGES", 1301)
    with logged() as said:
        values, _, _ = find_neighbors(
            Copying(digits, 0),
            digits,
            extractors.load("random"),
            seed=0,  # type: ignore[arg-type]
        )
    assert "near_copies_random" not in values
    assert any("1300 held-out images are fewer than 1301" in line for line in said)
