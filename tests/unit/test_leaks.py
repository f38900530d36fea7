"""Augmentation leaks of plain, augmented and partly augmented images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lab import data as datasets
from gan_lab.augmentation import Augmentation
from gan_lab.config.schema import AugmentConfig, DataConfig
from gan_lab.data.base import GANDataModule
from gan_lab.images import to_uint8, to_unit
from gan_lab.metrics import leaks
from gan_lab.seeding import Stream
from gan_lab.training.final_evaluation import evaluate
from tests.helpers.folders import run_folder


@pytest.fixture(scope="module")
def digits(data_root: Path) -> GANDataModule:
    return datasets.load(DataConfig(source="sample", root=str(data_root)), seed=0)


class Generator:
    """Gives held-out digits that choose, a share of them augmented."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, data: GANDataModule, policy: Any, share: float) -> None:
        self.augmentation, self.given, self.policy, self.share = (
            Augmentation(AugmentConfig(policy)),
            0,
            policy,
            share,
        )
        self.pixels = torch.cat(
            [to_uint8(batch.images) for batch in data.reference(650, split="validation")]
        )

    def generate(self, batch: Any, stream: Stream) -> Tensor:
        rows = torch.arange(self.given, self.given + len(batch.images))
        self.given += len(rows)
        plain = self.pixels[rows % len(self.pixels)]
        changed = leaks.augment(plain, self.policy, stream)
        which = torch.arange(len(rows)) < self.share * len(rows)
        return to_unit(torch.where(which.view(-1, 1, 1, 1), changed, plain))


@pytest.mark.parametrize("policy", ["ada", "diffaugment"])
def test_leak_share_is_between_reals_and_augmented(
    policy: Any, digits: GANDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share of a leaking generator is between that of reals and that of augmented reals."""
    made: dict[str, Any] = {}

    def once(pixels: Tensor, policy: str) -> Any:
        if policy not in made:
            made[policy] = leaks_train(pixels, policy)
        return made[policy]

    leaks_train = leaks.train_detector
    monkeypatch.setattr(leaks, "train_detector", once)
    found = {}
    for share in (0.0, 0.5, 1.0):
        values, protocol = leaks.find_leaks(Generator(digits, policy, share), digits, seed=0)  # type: ignore[arg-type]
        found[share] = values["leaks"]
    reals, changed = values["leaks_of_reals"], values["leaks_of_augmented"]
    assert reals < 0.15
    assert changed > 0.7  # at a low probability some images stay as they are
    assert found[0.0] == pytest.approx(reals, abs=0.05)
    assert found[1.0] == pytest.approx(changed, abs=0.05)
    assert found[0.5] == pytest.approx((reals + changed) / 2, abs=0.06)
    assert policy in protocol["classifier"]


def test_no_leaks_are_computed_with_too_few_images(
    digits: GANDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 49 test images there is no score: a detector is unreliable below 50."""
    monkeypatch.setattr(leaks, "TRAINING_STEPS", 1)
    found = {
        images: leaks.find_leaks(Generator(digits, "ada", 0.0), digits, 0, images)  # type: ignore[arg-type]
        for images in (49, 50)
    }
    assert found[49] == ({}, {})
    assert set(found[50][0]) == set(leaks.SCORE_NAMES)


def test_detector_is_deterministic(
    digits: GANDataModule,
) -> None:
    """The detector is deterministic, and the global random state is unchanged."""
    pixels = torch.cat([to_uint8(batch.images) for batch in digits.reference(100)])
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = leaks.augment(pixels, "ada", Stream(0, "x"))
    assert torch.equal(first, leaks.augment(pixels, "ada", Stream(0, "x")))
    assert not torch.equal(first, pixels)
    detector = leaks.train_detector(pixels[:64], "ada")
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 <= leaks.share_augmented(detector, pixels) <= 1


def test_only_augmented_runs_have_leak_scores(tmp_path: Path, data_root: Path) -> None:
    """Only runs with augmentation have leak scores."""
    for policy, names in (("ada", set(leaks.SCORE_NAMES)), ("off", set())):
        run = run_folder(
            "cgan",
            tmp_path / policy,
            data_root,
            f"augment.policy={policy}",
            "metrics.inception_weights=off",
        )
        entries = evaluate(run, "best")["scores"]["best"]
        assert {name for name in entries if name.startswith("leaks")} == names
        for name in names:
            assert entries[name]["higher_is_better"] is None
            assert 0 <= entries[name]["value"] <= 1
            assert "half of them by ada" in entries[name]["protocol"]["classifier"]
