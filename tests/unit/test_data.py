from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.config.schema import DataConfig
from gan_lab.data import toy
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.data.decoding import split_train_test
from gan_lab.data.samplers import EndlessBatchSampler
from gan_lab.data.split import Subset, group_rows, stratified_split
from gan_lab.images import ImageSpec, resize
from gan_lab.training.builder import explain_missing_classes, load_data
from tests.helpers.trainers import attach


def numbered(train: int = 30, test: int = 25, classes: int = 5) -> ArrayDataset:
    """Images whose pixels are the number of their row; held-out ones count down from 255."""

    def flat(values: np.ndarray) -> np.ndarray:
        return values.astype(np.uint8).repeat(16).reshape(-1, 1, 4, 4)

    rows, held = np.arange(train), 255 - np.arange(test)
    spec = ImageSpec(1, 4, 4, classes=classes)
    return ArrayDataset(
        spec, flat(rows), rows % classes, flat(held), held % classes, "full", "numbers", "0"
    )


def lab_data(seed: int = 0, **keys: object) -> GANDataModule:
    return GANDataModule(numbered(), DataConfig(**{"batch_size": 8, **keys}), seed)  # type: ignore[arg-type]


SPLITS = ("train", "validation", "test")


def levels_of(subset: Subset) -> list[int]:
    """The gray level of each image of a subset, sorted."""
    return sorted(subset.__getitems__(list(range(len(subset)))).images[:, 0, 0, 0].int().tolist())


def test_a_few_training_images_are_the_same_for_every_seed_and_among_those_of_more() -> None:
    few, same, more = (lab_data(seed, images=images) for seed, images in ((0, 5), (7, 5), (0, 12)))
    assert levels_of(few.train) == levels_of(same.train) != list(range(5))
    assert set(levels_of(few.train)) < set(levels_of(more.train))
    assert (len(few.train), len(more.train), len(lab_data(images=1_000).train)) == (5, 12, 30)
    assert few.decoded.about == "numbers; training on 5 of them (data.images)"
    for split in SPLITS:  # the reals of a score, and their references, are those of the whole
        assert levels_of(few.subset(split)) == levels_of(lab_data().subset(split))
    names = [few.reference(3, split=split).name for split in ("train", "learned")]
    assert names == ["train", "learned 5"]
    assert lab_data().reference(3, split="learned").name == "train"


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 3), (3, 8), (5, 5), (12, 1)])
def test_each_pass_reads_every_row_exactly_once(n: int, batch_size: int) -> None:
    passes = 3 * batch_size  # so that they end where a batch ends
    batches = list(
        EndlessBatchSampler(n, batch_size, seed=1, start=0, stop=passes * n // batch_size)
    )
    assert {len(batch) for batch in batches} == {batch_size}
    rows = np.concatenate(batches).reshape(passes, n)
    assert all(sorted(one) == list(range(n)) for one in rows.tolist())
    assert n < 5 or len({tuple(one) for one in rows.tolist()}) > 1


@pytest.mark.parametrize("start", [1, 2, 3, 7, 19])
def test_an_order_resumed_at_any_iteration_is_the_rest_of_the_whole(start: int) -> None:
    whole = list(EndlessBatchSampler(10, 4, seed=1, start=0, stop=20))
    rest = EndlessBatchSampler(10, 4, seed=1, start=start, stop=20)
    assert list(rest) == whole[start:]
    assert len(rest) == 20 - start
    assert list(rest) == whole[start:]  # and again: nothing is used up
    assert len(EndlessBatchSampler(10, 4, seed=1, start=21, stop=20)) == 0


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_shares_together_are_the_global_batch(world: int) -> None:
    whole = list(EndlessBatchSampler(10, 8, seed=1, start=0, stop=9))
    shares = [list(EndlessBatchSampler(10, 8, 1, 0, 9, rank, world)) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert {len(batch) for share in shares for batch in share} == {8 // world}


def test_another_seed_is_another_order() -> None:
    assert list(EndlessBatchSampler(50, 50, 0, 0, 1)) != list(EndlessBatchSampler(50, 50, 1, 0, 1))


@pytest.mark.parametrize("rank", [0, 1])
def test_training_batches_are_the_rows_of_the_order_from_the_familys_iteration_on(
    rank: int,
) -> None:
    data = lab_data(seed=3)
    data.iterations = 9
    attach(data, iteration=4, rank=rank, world=2, dtype=torch.float64)
    batches = list(data.train_dataloader())
    expected = list(EndlessBatchSampler(30, 8, 3, 4, 9, rank, 2))
    assert [batch.images[:, 0, 0, 0].tolist() for batch in batches] == expected
    assert [batch.labels.tolist() for batch in batches] == [
        [row % 5 for row in rows] for rows in expected
    ]
    on_device = data.on_after_batch_transfer(batches[0])
    assert on_device.images.dtype == torch.float64
    assert torch.allclose((on_device.images + 1) * 127.5, batches[0].images.double(), atol=1e-4)


def test_the_reference_is_the_same_held_out_images_for_every_seed_and_in_every_batch_size() -> None:
    one, other = lab_data(seed=0).reference(10, size=20), lab_data(seed=9).reference(10, size=4)
    assert [len(batch.images) for batch in other] == [4, 4, 2]
    images = torch.cat([batch.images for batch in other])
    assert torch.equal(one[0].images, images)
    levels = ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert len(set(levels)) == 10
    assert set(levels) <= set(range(231, 256))
    assert torch.cat([batch.labels for batch in other]).tolist() == [level % 5 for level in levels]
    counts = {
        split: sum(len(batch.images) for batch in lab_data().reference(1000, split=split))
        for split in SPLITS
    }
    assert counts == {"train": 30, "validation": 12, "test": 13}
    assert not set(levels) & set(levels_of(lab_data().validation))


def test_the_endless_reference_goes_on_where_it_is_told_to_and_then_begins_again() -> None:
    data = lab_data()
    whole = torch.cat([batch.images for batch in data.reference(13)])
    more = torch.cat([batch.images for batch in data.reference(13).repeat_rows(12, 32)])
    assert torch.equal(more, torch.cat([whole[12:], whole, whole[:6]]))
    assert len(data.reference(13).repeat_rows(5, 5)) == 0


def test_validation_and_test_are_other_images_with_as_many_of_each_class() -> None:
    data = GANDataModule(numbered(train=30, test=100, classes=5), DataConfig(), seed=0)
    one, other = levels_of(data.validation), levels_of(data.test)
    assert sorted(one + other) == levels_of(data.held_out)
    assert (
        np.bincount(data.validation.labels).tolist()
        == np.bincount(data.test.labels).tolist()
        == [10] * 5
    )
    assert data.divided
    alone = GANDataModule(numbered(train=30, test=1), DataConfig(labels=False), seed=0)
    assert levels_of(alone.validation) == levels_of(alone.test)
    assert not alone.divided
    chosen = replace(numbered(train=30, test=10), validation=np.array([1, 4, 5]))
    expected = [int(chosen.test_images[row].flat[0]) for row in (1, 4, 5)]  # type: ignore[call-overload]
    assert levels_of(GANDataModule(chosen, DataConfig(labels=False), seed=0).validation) == sorted(
        expected
    )


def test_as_many_reals_of_each_label_as_the_fakes_have_are_drawn_from_another_split() -> None:
    data = GANDataModule(numbered(train=100, test=100, classes=5), DataConfig(), seed=0)
    wanted = data.reference(1000).repeat_rows(0, 20).labels
    drawn = data.reference(1000, split="train").with_labels(wanted)
    assert (
        np.bincount(torch.cat([batch.labels for batch in drawn])).tolist()
        == np.bincount(wanted).tolist()
    )
    assert len(set(drawn.rows)) == 20


@pytest.mark.parametrize("held_out", [True, False])
def test_a_grid_by_class_has_one_row_for_each_class_and_never_changes(held_out: bool) -> None:
    data = GANDataModule(numbered(train=100, test=100, classes=5), DataConfig(), seed=0)
    batch, columns = data.grid_batch(held_out, by_class=True)
    assert columns == 10
    assert batch.labels.view(5, columns).tolist() == [[label] * columns for label in range(5)]
    levels = ((batch.images[:, 0, 0, 0] + 1) * 127.5).round().int()
    assert (levels >= 156).all() if held_out else (levels < 100).all()
    again, _ = GANDataModule(numbered(train=100, test=100), DataConfig(), seed=7).grid_batch(
        held_out, by_class=True
    )
    assert torch.equal(again.images, batch.images)


def test_classes_without_training_images_have_no_row_in_a_grid() -> None:
    """A set can lack a class, for example a combination of attributes that no image has."""
    decoded = numbered(train=100, test=100, classes=3)
    decoded = replace(decoded, spec=ImageSpec(1, 4, 4, classes=4))
    decoded.train_labels[decoded.train_labels == 1] = 3
    data = GANDataModule(decoded, DataConfig(), seed=0)
    for held_out in (True, False):
        batch, columns = data.grid_batch(held_out, by_class=True)
        assert batch.labels.view(-1, columns)[:, 0].tolist() == [0, 2, 3]


def test_a_grid_without_classes_is_8_by_8_different_images() -> None:
    batch, columns = GANDataModule(numbered(train=200, test=100), DataConfig(), seed=0).grid_batch(
        held_out=False, by_class=False
    )
    assert columns == 8
    assert len(batch.images[:, 0, 0, 0].unique()) == 64
    points, _ = datasets.load(DataConfig(name="toy"), 0).grid_batch(held_out=True, by_class=False)
    assert len(points.images.flatten(1).unique(dim=0)) == 1000


def test_labels_are_hidden_when_they_are_not_wanted() -> None:
    data = lab_data(labels=False)
    assert data.spec.classes == 0
    assert data.reference(3)[0].labels is None
    assert lab_data().spec.classes == 5


def test_rows_are_grouped_by_label_in_ascending_order() -> None:
    labels = np.random.default_rng(0).choice([7, 0, 3], size=100)
    groups = group_rows(labels)
    assert [rows.tolist() for rows in groups] == [
        [row for row in range(100) if labels[row] == label] for label in (0, 3, 7)
    ]


def test_many_classes_do_not_multiply_the_time_of_many_images() -> None:
    """A comparison of all labels per class makes 10,000 classes of a folder take seconds."""
    compared = 0

    class Counted(np.ndarray):
        def __eq__(self, other: object) -> Any:
            nonlocal compared
            compared += self.size
            return super().__eq__(other)

    labels = np.repeat(np.arange(500), 4).view(Counted)
    stratified_split(labels, 1)
    split_train_test(len(labels), labels)
    assert compared <= 2 * len(labels)


def test_stratified_holds_out_as_many_of_each_class_and_loses_none() -> None:
    labels = np.array([0] * 7 + [1] * 30 + [2] * 9)
    test, train = stratified_split(labels, 3)
    assert Counter(labels[test].tolist()) == {0: 3, 1: 3, 2: 3}
    assert sorted([*train, *test]) == list(range(46))
    assert not set(range(7, 10)) >= set(test[3:6])  # not the first of a class


@pytest.mark.parametrize("size", [14, 32, 5])
def test_resizing_keeps_constants_and_the_sides_of_an_edge(size: int) -> None:
    constants = np.full((3, 1, 28, 28), [[[[0]]], [[[77]]], [[[255]]]], dtype=np.uint8)
    made = resize(constants, size)
    assert made.shape == (3, 1, size, size)
    assert made.dtype == np.uint8
    assert [set(image.ravel().tolist()) for image in made] == [{0}, {77}, {255}]
    edge = np.zeros((1, 1, 28, 28), np.uint8)
    edge[..., 14:] = 200
    small = resize(edge, size)[0, 0]
    assert (small[:, 0] == 0).all()
    assert (small[:, -1] == 200).all()
    assert abs(float(small.mean()) - 100) < 1


def test_resizing_averages_what_falls_together_and_leaves_the_right_size_alone() -> None:
    stripes = np.zeros((1, 1, 28, 28), np.uint8)
    stripes[:, :, ::4] = 252  # without antialias none of these rows would be looked at
    assert abs(resize(stripes, 7)[0, 0, 1:-1].astype(float) - 63).max() <= 1
    assert resize(stripes, 28) is stripes


def test_the_ring_has_eight_modes_of_its_radius_and_spread() -> None:
    data = toy.decode(DataConfig(name="toy"))
    points, labels = data.train_images.reshape(-1, 2).astype(float), data.train_labels
    for mode in range(8):
        mine = points[labels == mode]
        error = 0.035 / len(mine) ** 0.5
        angle = mode * np.pi / 4
        assert mine.mean(axis=0) == pytest.approx(
            [0.7 * np.cos(angle), 0.7 * np.sin(angle)], abs=5 * error
        )
        assert mine.std(axis=0) == pytest.approx([0.035, 0.035], rel=0.05)
        assert abs(np.corrcoef(mine.T)[0, 1]) < 0.07
    assert stats.chisquare(np.bincount(labels)).pvalue > 0.001
    assert abs(points).max() < 1
    held = {point.tobytes() for point in data.test_images}
    assert not held & {point.tobytes() for point in data.train_images}
    assert np.array_equal(toy.decode(DataConfig(name="toy")).test_images, data.test_images)


def test_an_unknown_data_set_is_answered_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown data set 'mnits'\. Did you mean 'mnist'\? Available: .*mnist, .*toy",
    ):
        datasets.load(DataConfig(name="mnits"), 0)


@pytest.mark.parametrize(("name", "files"), [("emoji", None), ("toy", ["1.png"]),
                                             ("emoji_pairs", ["cat/1.jpg"])])  # fmt: skip
def test_root_of_a_data_set_that_does_not_read_it_is_refused(
    name: str, files: list[str] | None, tmp_path: Path
) -> None:
    """A typing error must not create a folder, and a folder of images must not be ignored."""
    root = tmp_path / "typo"
    for file in files or []:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    problem = "contains images" if files else "does not exist"
    with pytest.raises(
        ValueError,
        match=rf"{problem}, .*data\.name={name} is not read from .* Set data\.root=data, ",
    ):
        datasets.load(DataConfig(name=name, size=32, root=str(root)), 0)
    assert root.exists() == bool(files)


def test_unused_root_of_a_recorded_run_is_a_warning(tmp_path: Path) -> None:
    """Earlier versions accepted it, so their runs must remain usable."""
    (tmp_path / "1.png").touch()
    cfg = DataConfig(name="toy", root=str(tmp_path))
    with pytest.warns(UserWarning, match="contains images, but data.name=toy is not read from"):
        assert len(datasets.load(cfg, 0, is_recorded=True).train)


def test_existing_root_without_images_is_accepted_for_the_cache(tmp_path: Path) -> None:
    assert len(datasets.load(DataConfig(name="toy", root=str(tmp_path)), 0).train)


@pytest.mark.parametrize("test_labels", [[0] * 12, [0] * 8 + [2] * 4, [1] * 12])
def test_class_without_held_out_images_is_named(test_labels: list[int]) -> None:
    images = np.zeros((12, 1, 8, 8), np.uint8)
    labels = np.arange(12) % 3
    decoded = ArrayDataset(
        ImageSpec(1, 8, 8, 3, "digits"), images, labels, images, np.array(test_labels), "sample",
        "made up", "made", class_names=("ant", "bee", "cow"),
    )  # fmt: skip
    notes = explain_missing_classes(GANDataModule(decoded, DataConfig(size=8), seed=0))
    missing = [name for i, name in enumerate(("ant", "bee", "cow")) if i not in test_labels]
    assert [note.partition(":")[0] for note in notes] == [
        f"No {split} images of {len(missing)} of 3 classes ({', '.join(missing)})"
        for split in ("validation", "test")
    ]
    complete = replace(decoded, test_labels=labels)
    assert explain_missing_classes(GANDataModule(complete, DataConfig(size=8), seed=0)) == []
    # a subset of the training images
    (note,) = explain_missing_classes(GANDataModule(complete, DataConfig(size=8, images=2), seed=0))
    assert note.startswith("No training images of 1 of 3 classes (")
    assert note.endswith("): the model does not learn them")


@pytest.mark.parametrize("names", [("a", "a\nb"), ("a", "a"), ("a", "\x1b")])
def test_class_names_that_cannot_be_written_are_refused(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = replace(numbered(classes=2), class_names=names)
    monkeypatch.setattr("gan_lab.data.toy.decode", lambda cfg: decoded)
    config = loading.load("ring", ["data.name=toy", "data.size=4"]).config
    with pytest.raises(ValueError, match="the class names of the data set") as raised:
        load_data(config)
    assert len(str(raised.value).splitlines()) == 1
