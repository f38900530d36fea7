"""Probing: the features that are read, the labels that are shown, and what they can be worth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.data.split import Subset
from gan_lab.images import ImageSpec, to_unit
from gan_lab.inference import linear_probe
from gan_lab.runs.run import Run
from tests.helpers.folders import run_folder

CLASSES = 4


class Constant(nn.Module):
    """Features that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def features(self, images: Tensor) -> Tensor:
        return self.weight.expand(len(images), 2)


class Telling(Constant):
    """Features with the class: a corner pixel of 20 times the class, and almost nothing else."""

    def features(self, images: Tensor) -> Tensor:
        corner = (images[:, 0, 0, 0] + 1) * 127.5
        return torch.nn.functional.one_hot((corner / 20).round().long(), CLASSES).float()


@pytest.fixture
def hidden() -> GANDataModule:
    """Noise in which one pixel determines the class, and only its one-hot encoding is linear."""
    rng = np.random.default_rng(0)

    def images(labels: np.ndarray) -> np.ndarray:
        made = rng.integers(0, 256, (len(labels), 1, 6, 6), dtype=np.uint8)
        made[:, 0, 0, 0] = 20 * labels
        return made

    labels, held = np.arange(200) % CLASSES, np.arange(400) % CLASSES
    spec = ImageSpec(1, 6, 6, classes=CLASSES)
    return GANDataModule(
        ArrayDataset(spec, images(labels), labels, images(held), held, "full", "noise", "0"),
        DataConfig(),
        0,
    )


@pytest.fixture(autouse=True)
def two_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "INVERSE_PENALTIES", [1e-2, 1.0])


def test_as_many_rows_of_each_class_are_chosen_by_the_seed_and_not_the_first_ones(
    hidden: GANDataModule,
) -> None:
    rows = linear_probe.choose_rows(hidden.train, CLASSES, 40, seed=0)
    assert len(set(rows)) == 40
    assert Counter(row % CLASSES for row in rows) == dict.fromkeys(range(CLASSES), 10)
    assert rows == linear_probe.choose_rows(hidden.train, CLASSES, 40, seed=0)
    assert set(rows) != set(linear_probe.choose_rows(hidden.train, CLASSES, 40, seed=1))
    assert set(rows) != set(range(40))


@pytest.mark.parametrize(
    ("labels", "said"), [(16, "labels=16 of 4 classes"), (204, "one has 50. Use up to 200 labels")]
)
def test_too_few_labels_to_validate_or_to_have_are_refused(
    hidden: GANDataModule, labels: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        linear_probe.choose_rows(hidden.train, CLASSES, labels, seed=0)


@pytest.mark.parametrize("size", [1, 3, 250])
def test_features_come_in_the_order_of_the_rows_whatever_the_batch(
    hidden: GANDataModule, size: int
) -> None:
    rows = [5, 2, 199, 2]
    pixels, labels = linear_probe.features(hidden.train, rows, None, size)
    expected = to_unit(torch.from_numpy(hidden.train.images[rows])).flatten(1).numpy()
    assert np.array_equal(pixels, expected)
    assert labels.tolist() == [row % CLASSES for row in rows]
    told, _ = linear_probe.features(hidden.train, rows, Telling(), size)
    assert told.argmax(axis=1).tolist() == labels.tolist()


def test_accuracy_is_all_for_features_that_tell_the_class_and_chance_for_those_that_do_not(
    hidden: GANDataModule,
) -> None:
    rows = linear_probe.choose_rows(hidden.train, CLASSES, 100, seed=0)
    assert linear_probe.accuracy(hidden, rows, Telling()) == 1
    assert linear_probe.accuracy(hidden, rows, Constant()) == 1 / CLASSES
    assert linear_probe.accuracy(hidden, rows, None) < 0.9


def test_what_is_only_remembered_is_worth_nothing_on_held_out_images(hidden: GANDataModule) -> None:
    class Scattering(Constant):
        """Enough directions to separate any hundred images, and nothing generalizes to others."""

        def features(self, images: Tensor) -> Tensor:
            directions = torch.randn(36, 300, generator=torch.Generator().manual_seed(0))
            return torch.sin(100 * images.flatten(1) @ directions)

    rows = linear_probe.choose_rows(hidden.train, CLASSES, 100, seed=0)
    assert linear_probe.accuracy(hidden, rows, Scattering()) < 0.4


def test_features_far_from_standard_are_made_so(hidden: GANDataModule) -> None:
    class Shifted(Telling):
        def features(self, images: Tensor) -> Tensor:
            return 1e-4 * super().features(images) + 3

    rows = linear_probe.choose_rows(hidden.train, CLASSES, 100, seed=0)
    assert linear_probe.accuracy(hidden, rows, Shifted()) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_root: Path, sample: ArrayDataset) -> Path:
    return run_folder("vaegan", tmp_path_factory.mktemp("runs"), data_root, "model.z_dim=3")


def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Networks of which features were asked, instead of an accuracy."""
    asked: list[Any] = []

    def accuracy(data: GANDataModule, rows: list[int], network: Any) -> float:
        asked.append(network)
        return len(asked) / 10

    monkeypatch.setattr(linear_probe, "accuracy", accuracy)
    return asked


def test_a_probe_reads_the_trained_network_one_as_it_was_made_and_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = quick(monkeypatch)
    before = torch.get_rng_state()
    state = linear_probe.probe(folder, labels=59)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(state["accuracy"]) == ["encoder", "untrained encoder", "pixels"]
    assert state == json.loads((folder / "probe.json").read_text())
    assert (state["labels"], state["held_out"], state["iteration"]) == (50, 650, 2)
    trained, untrained, nothing = asked
    assert nothing is None
    run = Run(folder).restore(weights=None)
    run.load("last")
    expected: Any = run.family.encoder
    assert all(
        torch.equal(a, b) for a, b in zip(trained.parameters(), expected.parameters(), strict=True)
    )
    assert untrained.recipe == trained.recipe
    assert not untrained.training
    weight = next(untrained.parameters())
    assert not torch.equal(weight, next(trained.parameters()))
    linear_probe.probe(folder, labels=50, weights="best", seed=1)
    assert not torch.equal(next(asked[3].parameters()), next(trained.parameters()))
    assert torch.equal(next(asked[4].parameters()), weight)  # of the run's seed, not of the probe's


def test_digits_are_told_apart_by_their_pixels_and_by_an_untrained_encoder(folder: Path) -> None:
    found = linear_probe.probe(folder, labels=50)["accuracy"]
    assert found["pixels"] > 0.5
    assert found["untrained encoder"] > 0.3


@pytest.mark.parametrize(
    ("family", "words", "said"),
    [
        ("cgan", [], "Labels are an input: the discriminator of"),
        ("gan", ["data.labels=false"], "No labels: the data of"),
        ("pix2pix", [], "No image features: the discriminator of"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    family: str,
    words: list[str],
    said: str,
    tmp_path: Path,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = quick(monkeypatch)
    made = run_folder(family, tmp_path, data_root, *words)
    with pytest.raises(ValueError, match=said):
        linear_probe.probe(made, labels=50)
    assert not asked
    assert not (made / "probe.json").exists()


def test_a_discriminator_is_probed_where_there_is_no_encoder(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    found = linear_probe.probe(run_folder("gan", tmp_path, data_root), labels=50)
    assert list(found["accuracy"]) == ["discriminator", "untrained discriminator", "pixels"]


def test_only_the_chosen_training_images_are_learned_from(hidden: GANDataModule) -> None:
    seen: list[int] = []

    class Watched(Subset):
        def __getitems__(self, rows: Any) -> Any:
            seen.extend(rows)
            return super().__getitems__(rows)

    hidden.train = Watched(hidden.train.images, hidden.train.labels, None)
    rows = linear_probe.choose_rows(hidden.train, CLASSES, 40, seed=0)
    linear_probe.accuracy(hidden, rows, Telling())
    assert seen == rows
