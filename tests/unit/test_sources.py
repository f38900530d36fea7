"""Images with inputs: mirrored with them, gray versions of them, pairs or two sets."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.images import Batch, ImageSpec, jitter, to_gray
from tests.helpers.trainers import attach


def sided(
    n: int = 16, sources: int = 16, pairs: str = "all", test: int = 6, test_sources: int = 6
) -> ArrayDataset:
    """Images whose left half is their number, plus 100 in sources; the right half is white."""

    def halves(values: np.ndarray) -> np.ndarray:
        made = np.full((len(values), 3, 4, 4), 255, np.uint8)
        made[..., :2] = values.astype(np.uint8)[:, None, None, None]
        made[:, 1] = 30  # no gray
        return made

    spec = ImageSpec(3, 4, 4, source_channels=3, pairs=pairs)  # type: ignore[arg-type]
    return ArrayDataset(
        spec,
        halves(np.arange(n)),
        None,
        halves(np.arange(test)),
        None,
        "full",
        "sides",
        "0",
        halves(100 + np.arange(sources)),
        halves(100 + np.arange(test_sources)),
    )


def flipped(
    pairs: str, iteration: int = 0, rank: int = 0, world: int = 1, **keys: object
) -> tuple[Batch, Batch]:
    """A batch before and after the way to the device, of ``sided``."""
    data = GANDataModule(sided(pairs=pairs), DataConfig(flip=True, **keys), seed=5)  # type: ignore[arg-type]
    attach(data, iteration, rank=rank, world=world)
    batch = data.train.__getitems__(list(range(16))[rank * 16 // world : (rank + 1) * 16 // world])
    return batch, data.on_after_batch_transfer(batch)


def turned(images: Tensor) -> list[bool]:
    """Which of ``sided`` images stand the wrong way round."""
    return (images[:, 0, 0, 0] == 1).tolist()


@pytest.mark.parametrize("pairs", ["all", "none"])
def test_about_half_of_the_images_are_mirrored_counterparts_together_and_others_by_their_own_chance(
    pairs: str,
) -> None:
    images, sources = [], []
    for iteration in range(40):
        before, after = flipped(pairs, iteration)
        images += turned(after.images)
        sources += turned(after.sources)
        for given, made in ((before.images, after.images), (before.sources, after.sources)):
            for i, turn in enumerate(turned(made)):  # whole images, their number as it was
                assert torch.allclose(made[i], (given[i].flip(2) if turn else given[i]) / 127.5 - 1)
    assert 0.4 < np.mean(images) < 0.6
    assert 0.4 < np.mean(sources) < 0.6
    same = float(np.mean(np.array(images) == np.array(sources)))
    assert same == 1 if pairs == "all" else 0.4 < same < 0.6


def test_mirroring_is_a_function_of_seed_and_iteration_and_of_two_ranks_what_one_would_do() -> None:
    _, whole = flipped("none", iteration=3)
    shares = [flipped("none", 3, rank, 2)[1] for rank in range(2)]
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.sources for share in shares]), whole.sources)
    assert not torch.equal(flipped("none", iteration=4)[1].images, whole.images)


def test_the_gray_source_is_the_luma_of_each_image_mirrored_with_it() -> None:
    data = GANDataModule(sided(), DataConfig(degradation="gray"), seed=0)
    assert (data.spec.source_channels, data.spec.pairs, data.spec.channels) == (1, "all", 3)
    _, after = flipped("none", degradation="gray")
    assert after.sources.shape == (16, 1, 4, 4)
    assert any(turned(after.images))
    for batch in (after, data.reference(6)[0], data.grid_batch(held_out=False, by_class=False)[0]):
        assert torch.allclose(batch.sources, to_gray(batch.images))


def numbers(batch: Batch) -> tuple[list[int], list[int]]:
    """The numbers of the images and of the sources of ``sided``."""
    assert batch.sources is not None
    images, sources = (
        ((part[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
        for part in (batch.images, batch.sources)
    )
    return images, [source - 100 for source in sources]


@pytest.mark.parametrize("pairs", ["all", "held out"])
def test_held_out_counterparts_stay_together(pairs: str) -> None:
    data = GANDataModule(sided(pairs=pairs), DataConfig(), seed=0)
    for batch in (*data.reference(5, size=2), data.grid_batch(held_out=True, by_class=False)[0]):
        images, sources = numbers(batch)
        assert images == sources
    assert sum(len(batch.images) for batch in data.reference(5, size=2)) == 3


@pytest.mark.parametrize(("test", "test_sources"), [(9, 4), (4, 9)])
def test_of_two_sets_that_are_no_counterparts_each_is_read_once_until_the_smaller_ends(
    test: int, test_sources: int
) -> None:
    data = GANDataModule(
        sided(pairs="none", test=test, test_sources=test_sources), DataConfig(), seed=0
    )
    images, sources = numbers(data.reference(100)[0])
    assert len(images) == len(sources) == 2  # half of the smaller set
    assert len(set(images)) == len(set(sources)) == 2
    assert images != sources
    shown, beside = numbers(data.grid_batch(held_out=True, by_class=False)[0])
    assert sorted(shown) == list(range(test))
    assert set(beside) == set(range(min(test, test_sources)))  # the fewer ones are repeated


def test_two_sets_without_counterparts_are_served_each_in_its_own_order() -> None:
    data = GANDataModule(
        sided(n=16, sources=12, pairs="held out"), DataConfig(batch_size=4), seed=3
    )
    data.iterations = 12
    attach(data)
    batches = [data.in_range(batch) for batch in data.train_dataloader()]
    read = [numbers(batch) for batch in batches]
    assert list(chain(*(images for images, _ in read[:4]))) != list(
        chain(*(sources for _, sources in read[:4]))
    )
    assert sorted(chain(*(images for images, _ in read))) == sorted(list(range(16)) * 3)
    assert sorted(chain(*(sources for _, sources in read))) == sorted(list(range(12)) * 4)


@pytest.mark.parametrize(
    ("pairs", "sources", "held_out"), [("none", 4, 2), ("none", 9, 3), ("all", 6, 3)]
)
def test_as_many_held_out_images_count_as_can_be_scored(
    pairs: str, sources: int, held_out: int
) -> None:
    data = GANDataModule(sided(pairs=pairs, test=6, test_sources=sources), DataConfig(), seed=0)
    assert (
        data.available("test")
        == held_out
        == sum(len(batch.images) for batch in data.reference(100))
    )


def test_points_have_no_gray_version() -> None:
    made = ArrayDataset(
        ImageSpec(2, 1, 1, content="points"), *[np.zeros((3, 2, 1, 1)), None] * 2, "full", "", "0"
    )  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"data\.degradation=gray needs gray or RGB images, but these have 2 channels",
    ):
        GANDataModule(made, DataConfig(degradation="gray"), seed=0)


def test_jitter_enlarges_and_crops_at_each_images_own_corner_counterparts_alike() -> None:
    rows = torch.arange(8.0).view(1, 1, 8, 1).expand(5, 1, 8, 8)
    corners = torch.tensor([[0.0, 0.0], [0.99, 0.0], [0.5, 0.9], [0.2, 0.4], [0.99, 0.99]])
    made = jitter(rows, 4, corners)
    larger = torch.nn.functional.interpolate(rows, (12, 12), mode="bilinear")
    assert torch.equal(made[0], larger[0, :, :8, :8])
    assert torch.equal(made[4], larger[4, :, 4:, 4:])
    assert torch.equal(made[2], larger[2, :, 2:10, 4:])
    for pairs, alike in (("all", True), ("none", False)):
        data = GANDataModule(sided(pairs=pairs), DataConfig(jitter=2), seed=5)
        attach(data, iteration=3, dtype=torch.float64)
        batch = data.on_after_batch_transfer(data.train.__getitems__(list(range(16))))
        assert batch.images.shape == (16, 3, 4, 4)
        assert batch.sources is not None
        # the white half begins where the crop puts it; both sides have the same green
        where = [
            (part[:, 2] > 0.99).sum(dim=(1, 2)).tolist() for part in (batch.images, batch.sources)
        ]
        assert len(set(where[0])) > 1
        assert (where[0] == where[1]) == alike
