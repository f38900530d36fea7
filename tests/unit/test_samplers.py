"""Rows with few labels and rows of two sets: in order, by rank, resumed, and as batches."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from gan_lab.config.schema import DataConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.decoding import LazyImageFiles
from gan_lab.data.samplers import (
    EndlessBatchSampler,
    Row,
    SemiSupervisedBatchSampler,
    UnpairedBatchSampler,
)
from gan_lab.data.split import SelectedRows, Subset
from gan_lab.images import Batch
from tests.helpers.trainers import attach
from tests.unit.test_data import numbered

LABELLED = np.array([3, 11, 4, 19, 8])


def order_of(kind: str, start: int, stop: int, *rank_and_world: int) -> EndlessBatchSampler:
    if kind == "unpaired":
        return UnpairedBatchSampler(10, 7, 8, 1, start, stop, *rank_and_world)
    return SemiSupervisedBatchSampler(20, LABELLED, 8, 1, start, stop, *rank_and_world)


@pytest.mark.parametrize(
    ("n", "sources", "batch_size"), [(10, 7, 4), (7, 10, 5), (6, 6, 1), (3, 3, 8)]
)
def test_images_and_sources_are_each_read_once_in_each_pass_of_their_own(
    n: int, sources: int, batch_size: int
) -> None:
    stop = 2 * n * sources  # both end where a pass ends
    rows = np.concatenate(list(UnpairedBatchSampler(n, sources, batch_size, 1, 0, stop)))
    for column, count in ((rows[:, 0], n), (rows[:, 1], sources)):
        assert all(sorted(one) == list(range(count)) for one in column.reshape(-1, count).tolist())


def test_which_source_meets_an_image_changes_from_pass_to_pass_and_is_no_function_of_it() -> None:
    rows = np.concatenate(list(UnpairedBatchSampler(50, 50, 10, 1, 0, 15)))
    met = [dict(rows[number * 50 : (number + 1) * 50, :2].tolist()) for number in range(3)]
    for first, second in ((0, 1), (1, 2)):
        assert sum(met[first][image] == met[second][image] for image in range(50)) < 10
    assert sum(image == source for image, source, _ in rows.tolist()) < 15
    assert rows[:, 0].tolist() == list(
        chain(*EndlessBatchSampler(50, 10, 1, 0, 15))
    )  # the images come as they would without


def test_every_second_row_is_one_of_the_labelled_and_the_others_hide_their_label() -> None:
    rows = np.concatenate(
        list(SemiSupervisedBatchSampler(20, LABELLED, 8, 1, 0, 25))
    )  # four at a time: five passes of the 20
    assert rows[:, 2].tolist() == [0, 1] * (len(rows) // 2)
    known, hidden = rows[0::2, 0], rows[1::2, 0]
    assert Counter(known.tolist()) == dict.fromkeys(LABELLED.tolist(), 20)
    assert all(
        sorted(one) == list(range(20)) for one in hidden.reshape(5, 20).tolist()
    )  # the labeled ones too
    assert all(sorted(one) == sorted(LABELLED) for one in known.reshape(20, 5).tolist())
    assert len({tuple(one) for one in known.reshape(20, 5).tolist()}) > 5


@pytest.mark.parametrize("kind", ["unpaired", "semi-supervised"])
@pytest.mark.parametrize("start", [1, 3, 10])
def test_each_order_resumed_at_any_iteration_is_the_rest_of_the_whole(
    kind: str, start: int
) -> None:
    whole = list(order_of(kind, 0, 12))
    rest = order_of(kind, start, 12)
    assert list(rest) == whole[start:]
    assert list(rest) == whole[start:]  # and again: nothing is used up
    assert len(rest) == 12 - start


@pytest.mark.parametrize("kind", ["unpaired", "semi-supervised"])
@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_shares_of_each_order_together_are_the_global_batch(
    kind: str, world: int
) -> None:
    whole = list(order_of(kind, 0, 9))
    shares = [list(order_of(kind, 0, 9, rank, world)) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    if kind == "semi-supervised":  # each rank has as many with a label as without
        assert all(
            sum(hidden for *_, hidden in batch) * 2 == len(batch)
            for share in shares
            for batch in share
        )


def test_a_row_gives_image_label_and_source_and_hides_what_it_is_told_to() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    split = Subset(images, np.array([5, 4, 3, 2, 1, 0]), images + 100)
    paired = split.__getitems__([2, 5, 2])
    assert values(paired) == ([2, 5, 2], [3, 0, 3], [102, 105, 102])
    unpaired = split.__getitems__([Row(2, 0), Row(0, 5)])
    assert values(unpaired) == ([2, 0], [3, 5], [100, 105])
    hidden = Subset(images, split.labels, None).__getitems__(
        [Row(4, 4), Row(4, 4, 1), Row(0, 0, 1)]
    )
    assert hidden.images.flatten().tolist() == [4, 4, 0]
    assert hidden.labels.tolist() == [1, -1, -1]
    assert Subset(images, None, None).__getitems__([1]).labels is None


def values(batch: Batch) -> tuple[list[int], list[int], list[int]]:
    return batch.images.flatten().tolist(), batch.labels.tolist(), batch.sources.flatten().tolist()


def served(data: GANDataModule, iterations: int) -> list[Batch]:
    """The batches that a training in one process reads."""
    data.iterations = iterations
    attach(data)
    return list(data.train_dataloader())


def test_so_many_labels_of_each_class_are_shown_and_all_images() -> None:
    data = GANDataModule(
        numbered(train=40, classes=5), DataConfig(batch_size=10, labels_per_class=3), seed=2
    )
    batches = served(data, iterations=24)
    rows = torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).numpy()
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    shown = set(rows[labels >= 0].tolist())
    assert Counter(row % 5 for row in shown) == dict.fromkeys(range(5), 3)
    assert (labels[labels >= 0] == rows[labels >= 0] % 5).all()
    assert set(rows[labels < 0].tolist()) == set(range(40))
    assert (labels < 0).sum() == len(labels) / 2
    assert (data.reference(25)[0].labels >= 0).all()  # the scores know all


def test_which_labels_are_shown_is_chosen_by_the_seed_and_not_the_first_ones() -> None:
    chosen = [
        GANDataModule(numbered(train=40, classes=5), DataConfig(labels_per_class=3), seed).labelled
        for seed in (0, 0, 1)
    ]
    assert chosen[0].tolist() == chosen[1].tolist()
    assert set(chosen[0].tolist()) != set(chosen[2].tolist())
    assert set(chosen[0].tolist()) != set(range(15))


def test_labels_that_the_data_does_not_have_are_refused() -> None:
    with pytest.raises(
        ValueError, match="labels_per_class=9 is more than the smallest class has: 8 images"
    ):
        GANDataModule(numbered(train=40, classes=5), DataConfig(labels_per_class=9), 0)
    with pytest.raises(
        ValueError, match="labels_per_class=2 needs labels, but the data set has none"
    ):
        GANDataModule(numbered(), DataConfig(labels_per_class=2, labels=False), 0)


@pytest.mark.parametrize("sources", [False, True])
def test_what_lies_on_a_device_gives_the_same_batches_and_only_what_has_room_lies_there(
    sources: bool,
) -> None:
    images = np.arange(20, dtype=np.uint8).reshape(10, 2, 1, 1)
    part = SelectedRows(images, np.array([8, 2, 5]), (0, 1))
    split = Subset(images, np.arange(10), part if sources else None)
    rows = [Row(7, 2), Row(1, 0), Row(0, 1)] if sources else [Row(7, 7), Row(1, 1, 1), Row(0, 0)]
    room = images.nbytes + (part.nbytes if sources else 0)
    assert split.to_device(torch.device("cpu"), room - 1) is split
    resident, read = (
        split.to_device(torch.device("cpu"), room).__getitems__(rows),
        split.__getitems__(rows),
    )
    assert split.to_device(torch.device("cpu"), room) is not split
    assert torch.equal(resident.images, read.images)
    assert torch.equal(resident.labels, read.labels)
    assert resident.sources is None or torch.equal(resident.sources, read.sources)
    lazy = Subset(LazyImageFiles([], lambda item: item), None, None)
    assert lazy.to_device(torch.device("cpu"), 1e18) is lazy
