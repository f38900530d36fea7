"""Scores of generators without a network, references of few images, and the protocol."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig, MetricsConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.images import to_uint8
from gan_lab.metrics.base import Setting, Statistics
from gan_lab.metrics.classification_accuracy_score import ClassificationAccuracyScore
from gan_lab.metrics.code_accuracy import CodeAccuracy
from gan_lab.metrics.evaluator import Evaluator
from gan_lab.metrics.extractors.digits import Digits
from gan_lab.metrics.feature_scores import FeatureScores, repeat_moments
from gan_lab.metrics.frechet import frechet_distance, moments
from gan_lab.report.compare import side_by_side
from gan_lab.report.summary import build_rows
from gan_lab.runs.results import Score
from gan_lab.utils.score_names import is_trivial_score

CPU = torch.device("cpu")
LEARNED_IMAGES = 100


def build(root: Path, conditional: bool = False, images: int | None = LEARNED_IMAGES) -> Evaluator:
    """Build an evaluator of 300 fakes and 200 test images for a run that learns from 100 images."""
    data = datasets.load(DataConfig(source="sample", root=str(root), images=images), 0)
    setting = Setting(
        data.spec,
        MetricsConfig(inception_weights="off"),
        conditional=conditional,
        split="test",
        reals=200,
        fakes=300,
        final=True,
        augment="ada",
    )
    metric = FeatureScores(Digits(), conditional, 10_000, final=True)
    return Evaluator(data, [metric], setting, seed=0, shared=False)


def extract(evaluator: Evaluator, split: str, n: int = sys.maxsize) -> torch.Tensor:
    """Extract the features of the images of a split."""
    extractor = evaluator.metrics[0].extractor  # type: ignore[attr-defined]
    reference = evaluator.data.reference(n, split=split)
    return torch.cat([extractor(to_uint8(batch.images))[0] for batch in reference])


def test_replay_has_score_of_learned_images_themselves(
    sample: ArrayDataset, data_root: Path
) -> None:
    evaluator = build(data_root)
    trivial = evaluator.compute_trivial_scores(CPU)
    real, known = extract(evaluator, "test", 200), extract(evaluator, "learned")
    assert len(known) == LEARNED_IMAGES
    repeated = known[torch.arange(300) % LEARNED_IMAGES]
    assert trivial["fd_digits_of_replay"] == pytest.approx(
        frechet_distance(moments(real), moments(repeated)), rel=1e-6
    )
    assert set(trivial) == {
        f"{score}_of_{kind}"
        for score in ("fd_digits", "kd_digits")
        for kind in ("replay", "mean_image")
    }
    assert all(is_trivial_score(name) for name in trivial)


def test_reference_classifier_learns_from_learned_images_only(
    sample: ArrayDataset, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``data.images``, cas_of_reals is that of a classifier of these images alone."""
    evaluator = build(data_root, conditional=True)
    metric = ClassificationAccuracyScore(10, 10_000)
    evaluator.metrics = [metric]
    seen: list[torch.Tensor] = []
    compute = metric.compute

    def record(real: Statistics, fake: Statistics) -> dict[str, float]:
        seen.append(fake["images"])
        return compute(real, fake)

    monkeypatch.setattr(metric, "compute", record)
    values = evaluator.compute_references(CPU)
    (trained_on,) = seen
    learned = evaluator.data.reference(sys.maxsize, split="learned")
    known = {image.numpy().tobytes() for batch in learned for image in to_uint8(batch.images)}
    assert len(known) == LEARNED_IMAGES
    assert len(trained_on) == LEARNED_IMAGES
    assert {image.numpy().tobytes() for image in trained_on} <= known
    assert 0.5 < values["cas"] < 1


def test_mean_image_has_distance_of_single_point(sample: ArrayDataset, data_root: Path) -> None:
    """The Fréchet distance of one repeated image is |mu - f|^2 + tr(Sigma)."""
    evaluator = build(data_root)
    trivial = evaluator.compute_trivial_scores(CPU)
    real = extract(evaluator, "test", 200).double()
    learned = evaluator.data.reference(sys.maxsize, split="learned")
    pixels = torch.cat([to_uint8(batch.images) for batch in learned]).double()
    mean = pixels.mean(dim=0, keepdim=True).round().to(torch.uint8)
    feature = evaluator.metrics[0].extractor(mean)[0].double()  # type: ignore[attr-defined]
    expected = (real.mean(dim=0) - feature).square().sum() + real.var(dim=0).sum()
    assert trivial["fd_digits_of_mean_image"] == pytest.approx(float(expected), rel=1e-6)
    assert trivial["fd_digits_of_mean_image"] > 10 * trivial["fd_digits_of_replay"]
    assert trivial["kd_digits_of_mean_image"] > 10 * abs(trivial["kd_digits_of_replay"])


def test_mean_image_of_conditional_generator_is_that_of_each_class(
    sample: ArrayDataset, data_root: Path
) -> None:
    plain = build(data_root).compute_trivial_scores(CPU)
    conditional = build(data_root, conditional=True).compute_trivial_scores(CPU)
    assert 0 < conditional["fd_digits_of_mean_image"] < plain["fd_digits_of_mean_image"]
    assert conditional["fd_digits_of_replay"] == pytest.approx(
        plain["fd_digits_of_replay"], rel=0.5
    )


def test_references_are_of_learned_images_and_full_ones_stand_next(
    sample: ArrayDataset, data_root: Path
) -> None:
    """A run that learns from 100 images cannot be closer than these 100 images are."""
    few, whole = build(data_root), build(data_root, images=None)
    learned = few.compute_references(CPU)["fd_digits"]
    full = few.compute_full_references(CPU)["fd_digits"]
    known, real = extract(few, "learned"), extract(few, "test", 200)
    assert learned == pytest.approx(frechet_distance(moments(real), moments(known)), rel=1e-6)
    assert full < learned
    assert full == whole.compute_references(CPU)["fd_digits"]
    assert whole.compute_full_references(CPU) == {}


def test_trivial_scores_follow_full_references_of_another_run(
    sample: ArrayDataset, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all images both are of the same reals, and share the cache of the data."""
    few, whole = build(data_root), build(data_root, images=None)
    monkeypatch.setattr(GANDataModule, "cache", tmp_path)
    assert not any(is_trivial_score(name) for name in few.compute_full_references(CPU))
    assert len(whole.compute_trivial_scores(CPU)) == 4


@pytest.mark.parametrize(("cap", "is_mixed"), [(40, True), (1000, False)])
def test_kept_features_of_conditional_reference_have_all_classes(
    cap: int,
    is_mixed: bool,
    sample: ArrayDataset,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reals are chosen by class. If all of their features are kept, their order is as it was."""
    monkeypatch.setattr(GANDataModule, "cache", tmp_path)
    evaluator = build(data_root, conditional=True, images=None)
    metric: Any = evaluator.metrics[0]
    metric.cap = cap
    cfg = replace(evaluator.cfg, max_features_kept=cap)
    evaluator.cfg, evaluator.setting = cfg, replace(evaluator.setting, cfg=cfg)
    update, labels = metric.update_fake, []
    metric.update_fake = lambda outputs, batch: (
        labels.extend(batch.labels.tolist()) or update(outputs, batch)
    )
    evaluator.compute_references(CPU)
    assert (len(set(labels[:40])) >= 8) == is_mixed
    assert (labels[:300] != sorted(labels[:300])) == is_mixed


def test_repeated_moments_have_exact_count() -> None:
    """Fractions such as 2600 / 73 are rounded, and the count is used as a whole number."""
    for known in (72, 73, 146):
        repeated = repeat_moments(moments(torch.ones(known, 1)), 2600)
        assert int(repeated["count"]) == 2600, known
        assert float(repeated["sum"]) == pytest.approx(2600)


def test_protocol_names_how_run_was_trained_and_extractor_device(
    sample: ArrayDataset, data_root: Path
) -> None:
    evaluator = build(data_root, conditional=True)
    protocol = evaluator.protocol("fd_digits_of_replay", "best", "validation")
    assert protocol["generator"].startswith("the images that the run learned from")
    assert protocol["labels"] == "those of the reals"
    assert protocol["train_images"] == LEARNED_IMAGES
    assert (protocol["flip"], protocol["augment"]) == (False, "ada")
    assert (protocol["device"], protocol["precision"]) == ("cpu", "float32")
    assert build(data_root).protocol("fd_digits", "", "")["labels"] == "none"


def test_random_codes_exceed_one_in_ten(sample: ArrayDataset, data_root: Path) -> None:
    """With 650 images and ten categories, the best assignment of random codes has 0.154."""
    data = datasets.load(DataConfig(source="sample", root=str(data_root)), 0)
    reals = data.reference(sys.maxsize, split="test")
    metric = CodeAccuracy()
    logits = torch.zeros(2, 10)
    metric.update_fake({"code_logits": logits}, reals[0]._replace(labels=torch.zeros(2)))
    baseline = metric.baselines(data, reals)
    assert len(np.asarray(reals.labels)) == 650
    assert baseline == {"code_accuracy_of_random_codes": pytest.approx(0.154, abs=0.004)}


def test_report_shows_trivial_scores_as_columns_and_comparison_omits_them() -> None:
    scores = {
        "fd_digits": Score(2.0, higher_is_better=False, protocol={"floor": 0.5}),
        "fd_digits_of_replay": Score(0.75),
        "fd_digits_of_mean_image": Score(131.0),
    }
    run: Any = SimpleNamespace(
        scores=scores,
        scores_of=lambda weights: scores,
        headline="fd_digits",
        path=Path("a"),
        values={},
        higher_is_better={"fd_digits": False},
    )
    (row,) = build_rows(run)
    assert (row.name, row.reals, row.replay, row.mean_image) == ("fd_digits", "0.5", "0.75", "131")
    assert [column.score for column in side_by_side([("a", [run])]).columns] == ["fd_digits"]
