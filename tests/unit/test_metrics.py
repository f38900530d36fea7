from __future__ import annotations

import hashlib
import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lab import data as datasets
from gan_lab import seeding
from gan_lab.config.schema import DataConfig, MetricsConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.toy import MODES, RING_RADIUS, SPREAD, centers
from gan_lab.images import Batch, ImageSpec, to_uint8, to_unit
from gan_lab.metrics import classification_accuracy_score
from gan_lab.metrics.base import Setting, Statistics
from gan_lab.metrics.classification_accuracy_score import ClassificationAccuracyScore
from gan_lab.metrics.digit_classifier import WEIGHTS_FILE, load_digit_classifier
from gan_lab.metrics.evaluator import Evaluator, count_images
from gan_lab.metrics.extractors.digits import Digits
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.metrics.mode_coverage import ModeCoverage
from gan_lab.metrics.selection import select_metrics


def training_script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "train_digit_classifier.py"))


def test_digit_classifier_has_recorded_accuracy(sample: ArrayDataset, tmp_path: Path) -> None:
    """The recorded accuracy is reached on held-out digits, which include all test digits."""
    record = json.loads(WEIGHTS_FILE.with_suffix(".json").read_text())
    assert hashlib.sha256(WEIGHTS_FILE.read_bytes()).hexdigest() == record["sha256"]
    with torch.no_grad():
        images, _, held, labels, _ = training_script()["load_digits"](tmp_path)
        logits = load_digit_classifier()(to_unit(held[:, None]))
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    assert accuracy == record["accuracy"]
    assert accuracy > 0.97
    assert record["held_out_images"] == len(labels)
    learned = {image.numpy().tobytes() for image in images}
    test = np.delete(np.asarray(sample.test_images), sample.validation, axis=0)  # type: ignore[arg-type]
    assert not [image for image in test if image.tobytes() in learned]


def digits(conditions: bool, final: bool = False) -> FeatureScores:
    return FeatureScores(Digits(), conditions, 10_000, final)


def test_digit_scores_detect_wrong_class_and_distance(
    sample: ArrayDataset,
) -> None:
    """Scores of digits depend on their classes and on their distance to the reals."""
    images, labels = (
        torch.from_numpy(np.asarray(part[::4])) for part in (sample.test_images, sample.test_labels)
    )
    metric = digits(conditions=True, final=True)
    real = metric.update_real(Batch(images, labels))

    def scores(rows: Tensor, asked_for: Tensor) -> dict[str, float]:
        batch = Batch(images, asked_for[rows])
        return metric.compute(real, metric.update_fake({"generated": images[rows]}, batch))

    every, nothing = torch.ones(len(labels), dtype=torch.bool), labels == 0
    good = scores(every, labels)
    assert good["fd_digits"] < 1e-5
    assert good["digit_score"] > 9.5
    assert good["label_accuracy"] > 0.97
    assert good["kd_digits"] <= 3 * good["kd_digits_sd"]
    assert [good[f"{name}_digits"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert scores(every, (labels + 1) % 10)["label_accuracy"] < 0.02
    zeros = scores(nothing, labels)
    assert zeros["fd_digits"] > 10 * good["fd_digits"] + 1
    assert zeros["kd_digits"] > 10 * good["kd_digits_sd"]
    assert zeros["digit_score"] < 1.2
    assert zeros["precision_digits"] == 1  # each is a real zero
    assert zeros["recall_digits"] < 0.3
    assert zeros["coverage_digits"] < 0.3
    assert [name for name in good if not name.endswith("_sd")] == list(metric.names)
    assert digits(conditions=False).names == ("fd_digits", "digit_score")


def test_cas_measures_what_fakes_teach(
    sample: ArrayDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classification accuracy score is the accuracy of a classifier trained on fakes."""
    monkeypatch.setattr(classification_accuracy_score, "TRAINING_STEPS", 100)
    train, held_out = (
        Batch(
            torch.from_numpy(np.asarray(images[::step])),
            torch.from_numpy(np.asarray(labels[::step])),
        )
        for images, labels, step in (
            (sample.train_images, sample.train_labels, 4),
            (sample.test_images, sample.test_labels, 2),
        )
    )
    metric = ClassificationAccuracyScore(10, cap=10_000)
    real = metric.update_real(held_out)

    def score(made: Tensor, labels: Tensor) -> float:
        return metric.compute(
            real, metric.update_fake({"generated": made}, Batch(held_out.images, labels))
        )["cas"]

    torch.manual_seed(3)
    state = torch.get_rng_state()
    shuffled = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(0))
    order = seeding.permutation(0, "test", 0, len(train.images))
    images, labels = train.images[order], train.labels[order]
    perfect = score(images, labels)
    assert perfect > 0.8  # reals as fakes
    assert perfect == score(images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    # The samples do not show the requested digits.
    assert score(images, labels[shuffled]) < 0.3
    one_each = torch.stack([images[labels == label][0] for label in range(10)])
    assert score(one_each[labels], labels) < perfect - 0.2  # ten images, over and over


def test_digit_classifier_ignores_color_and_size(sample: ArrayDataset) -> None:
    """Color and size of an image do not change the features of the digit classifier."""
    gray = to_unit(torch.from_numpy(np.asarray(sample.test_images[:200])))
    classifier = load_digit_classifier()
    with torch.no_grad():
        assert torch.allclose(classifier(gray.expand(-1, 3, -1, -1)), classifier(gray), atol=1e-4)
        larger = torch.nn.functional.interpolate(gray, (56, 56))
        assert (classifier(larger).argmax(1) == classifier(gray).argmax(1)).double().mean() > 0.97


def observed(points: Tensor) -> Statistics:
    return ModeCoverage().update_fake({"generated": points}, Batch(points))


def test_exact_ring_has_rayleigh_share() -> None:
    """The true ring covers all modes, and its high-quality share is that of Rayleigh."""
    n, rng = 40_000, np.random.default_rng(0)
    points = centers()[rng.integers(MODES, size=n)] + SPREAD * rng.standard_normal((n, 2))
    scores = ModeCoverage().compute({}, observed(torch.from_numpy(points).float().view(n, 2, 1, 1)))
    share = 1 - math.exp(-4.5)  # P(r < 3 sigma) in the plane
    assert scores["modes_covered"] == 8
    assert scores["high_quality"] == pytest.approx(
        share, abs=5 * math.sqrt(share * (1 - share) / n)
    )


@pytest.mark.parametrize(
    ("shares", "covered"),
    [([800] + [0] * 7, 1), ([100] * 8, 8), ([775, 25] + [0] * 6, 2), ([776, 24] + [0] * 6, 1)],
)
def test_mode_with_quarter_of_share_is_covered(shares: list[int], covered: int) -> None:
    """A mode counts as covered if it has a quarter of its share."""
    points = torch.from_numpy(np.repeat(centers(), shares, axis=0)).view(-1, 2, 1, 1)
    scores = ModeCoverage().compute({}, observed(points))
    assert scores == {"modes_covered": covered, "high_quality": 1.0}


def test_points_off_the_ring_cover_nothing() -> None:
    just_out = torch.tensor(
        [[RING_RADIUS + 3.1 * SPREAD, 0.0], [0.0, 0.0], [0.0, RING_RADIUS - 2.9 * SPREAD]]
    ).view(3, 2, 1, 1)
    assert observed(just_out)["near"].tolist() == [False, False, True]


def names_of(
    spec: ImageSpec, *output_names: str, conditional: bool = False, final: bool = False, **keys: Any
) -> list[str]:
    cfg = MetricsConfig(**{"inception_weights": "off"} | keys)
    setting = Setting(
        spec, cfg, ("generated", *output_names), conditional, reals=1000, fakes=1000, final=final
    )
    return [name for metric in select_metrics(setting) for name in metric.names]


def test_scores_depend_on_content_and_outputs() -> None:
    """The scores depend on the content of the data and on the outputs of the family."""
    digits = ImageSpec(1, 28, 28, content="digits")
    assert names_of(digits) == ["fd_digits", "digit_score"]
    assert names_of(digits, conditional=True) == ["fd_digits", "digit_score", "label_accuracy"]
    assert names_of(digits, "reconstructed")[2:] == [
        "reconstruction_accuracy",
        "reconstruction_psnr",
    ]
    assert names_of(digits, "logits", "baseline_logits")[:2] == ["accuracy", "baseline_accuracy"]
    assert names_of(ImageSpec(2, 1, 1, content="points")) == ["modes_covered", "high_quality"]
    assert names_of(ImageSpec(3, 64, 64)) == ["kd_lite0_mid"]
    horses = ImageSpec(3, 64, 64, content="horses", source_channels=3, pairs="held out")
    one_way = ["psnr", "ssim", "psnr_inside", "gain_inside", "psnr_outside"]
    both = [*one_way, *(f"back_{name}" for name in one_way), "cycle_psnr", "back_cycle_psnr"]
    assert names_of(horses) == [
        "kd_lite0_mid",
        *one_way,
    ]  # what chooses is no distance to the hidden truth
    assert names_of(horses, "back", "cycled", "back_cycled") == ["kd_lite0_mid", *both]
    assert names_of(replace(horses, pairs="none")) == [
        "kd_lite0_mid"
    ]  # nothing is known to compare with
    gray = ImageSpec(3, 64, 64, source_channels=1, pairs="all")
    assert names_of(gray) == ["kd_lite0_mid", "psnr", "ssim", "gain_over_mean_colour"]


def test_final_evaluation_adds_scores_and_extractors() -> None:
    """The final evaluation adds slow scores, and extractors can be chosen."""
    labelled = ImageSpec(1, 28, 28, classes=10, content="digits")
    later = ["kd_digits", "precision_digits", "recall_digits", "density_digits", "coverage_digits"]
    assert names_of(labelled, final=True) == ["fd_digits", "digit_score", *later]
    told = names_of(labelled, conditional=True, final=True)
    assert told == ["fd_digits", "digit_score", "label_accuracy", *later, "cas"]
    assert names_of(labelled, conditional=True, extractors=["random"]) == ["fd_random"]
    assert names_of(labelled, extractors=["random", "digits"]) == [
        "fd_random",
        "fd_digits",
        "digit_score",
    ]
    assert names_of(ImageSpec(2, 1, 1, content="points"), final=True) == [
        "modes_covered",
        "high_quality",
    ]
    with pytest.raises(
        ValueError,
        match=r"unknown extractor 'clop'\. .*"
        r"Available: clip, digits, dinov2, inception, lite0, lite0_mid, pixels, points, random",
    ):
        names_of(labelled, extractors=["clop"])
    for spec, name in ((labelled, "points"), (ImageSpec(2, 1, 1, content="points"), "digits")):
        with pytest.raises(
            ValueError, match=f"metrics.extractors={name} does not suit {spec.content}\\. "
        ):
            names_of(spec, extractors=[name])
    assert names_of(labelled, extractors=["random", "random"]) == ["fd_random"]
    with pytest.raises(
        ValueError, match=r"metrics\.extractors has inception, but metrics\.inception_weights=off"
    ):
        names_of(labelled, extractors=["inception"], inception_weights="off")


def test_protocol_contains_parameters_of_formula() -> None:
    """The protocol of a score contains the parameters of its formula."""
    metric = FeatureScores(Digits(), False, cap=600, final=True)
    assert {"extractor", "weights_sha256", "resize"} == metric.protocol("fd_digits", 1000).keys()
    assert (
        metric.protocol("kd_digits", 1000)["subset_size"] == 300
    )  # half of the rows that are kept
    assert metric.protocol("kd_digits", 1000)["rows"] == 600
    assert metric.protocol("recall_digits", 500) == metric.extractor_protocol | {
        "neighbours": 3,
        "rows": 500,
    }
    assert metric.protocol("coverage_digits", 500)["neighbours"] == 5


def test_distances_are_better_when_lower() -> None:
    """Distances are better when lower, all other scores when higher."""
    higher = FeatureScores(Digits(), True, cap=600, final=True).higher_is_better
    assert [name for name, better in higher.items() if not better] == ["fd_digits", "kd_digits"]
    assert len(higher) == 8


def few(n: int, fakes: int = 1000, **keys: Any) -> tuple[list[str], list[str]]:
    """The scores of digits against n reals, and what is said of those that are left out."""
    setting = Setting(
        ImageSpec(1, 28, 28, content="digits"), MetricsConfig(**keys), reals=n, fakes=fakes
    )
    return [name for metric in select_metrics(setting) for name in metric.names], setting.notes


def test_few_images_select_kernel_distance() -> None:
    """With fewer than ten images per feature, the kernel distance replaces the Fréchet distance."""
    assert few(640) == (["fd_digits", "digit_score"], [])
    for reals, fakes in ((639, 1000), (1000, 639)):
        kernel, (note,) = few(reals, fakes)
        assert kernel == ["kd_digits", "digit_score"]
        assert note.startswith(
            "Skipping fd_digits: 639 images are fewer than 10 per feature (64 features)"
        )
        assert "Reporting kd_digits instead" in note
        assert "metrics.allow_small_n=true" in note
    assert few(20, allow_small_n=True) == (["fd_digits", "digit_score"], [])
    assert few(3) == ([], ["Skipping distances: 3 images are fewer than 4."])


def test_min_images_reference_is_below_missing_class(
    sample: ArrayDataset,
) -> None:
    """Digits of as many of each class on both sides; then the eights of one side become ones."""
    labels, train = (
        np.asarray(sample.train_labels),
        torch.from_numpy(np.asarray(sample.train_images)),
    )
    of = seeding.permutation(0, "floor", 0, len(labels))
    rows = [of[labels[of] == label] for label in range(10)]
    one, other = (
        np.concatenate([members[64 * i : 64 * (i + 1)] for members in rows]) for i in (0, 1)
    )
    lacking = np.concatenate([other[labels[other] != 8], rows[1][128:192]])
    metric, nothing = digits(conditions=False), Batch(torch.empty(0))
    real = metric.update_real(Batch(train[one]))
    floor, cost = (
        metric.compute(real, metric.update_fake({"generated": train[which]}, nothing))["fd_digits"]
        for which in (other, lacking)
    )
    assert len(one) == len(lacking) == 640
    assert floor < cost / 10
    assert 5 < cost < 10  # 7.0 of a hundred among a thousand


def test_training_images_have_score_of_reals(sample: ArrayDataset, data_root: Path) -> None:
    """The ceiling of cas: a perfect generator is at one, not at the score itself."""
    served = datasets.load(DataConfig(source="sample", root=str(data_root)), 0)
    cfg = MetricsConfig(inception_weights="off")
    setting = Setting(served.spec, cfg, conditional=True, split="test", reals=650, fakes=1000)
    metric = ClassificationAccuracyScore(10, cap=10_000)
    evaluator = Evaluator(served, [metric], setting, seed=0, shared=False)
    of_reals = evaluator.compute_references(torch.device("cpu"))["cas"]
    assert metric.reference_names == {"cas": "cas_of_reals"}
    labels = np.asarray(served.train.labels)
    rows = seeding.permutation(0, "others", 0, len(labels))
    chosen = np.concatenate([rows[labels[rows] == label][:100] for label in range(10)])
    batch = served.train.__getitems__(chosen.tolist())
    fakes = metric.update_fake({"generated": batch.images}, batch)
    value = metric.compute(evaluator._get_real_statistics(torch.device("cpu"))[0], fakes)["cas"]
    assert value / of_reals == pytest.approx(1, abs=0.03)


def test_evaluator_uses_stated_numbers_of_images(
    data_root: Path,
) -> None:
    """The score is computed from the numbers of fakes and reals in the protocol."""
    served = datasets.load(DataConfig(source="sample", root=str(data_root)), 0)
    metric = FeatureScores(Digits(), False, 10_000, final=False)
    setting = Setting(served.spec, MetricsConfig(), split="test", reals=100, fakes=300)

    class Noise(torch.nn.Module):
        output_names = ("generated",)
        device, dtype = torch.device("cpu"), torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.made: list[Tensor] = []

        def generate(self, batch: Batch, stream: seeding.Stream) -> Tensor:
            self.made.append(
                stream.uniform(len(batch.images), 1, 28, 28, like=batch.images) * 2 - 1
            )
            return self.made[-1]

        def outputs(self, batch: Batch, stream: seeding.Stream) -> dict[str, Tensor]:
            return {"generated": self.generate(batch, stream)}

    family: Any = Noise()
    evaluator = Evaluator(served, [metric], setting, seed=0, shared=False)
    value = evaluator(family)["fd_digits"]
    protocol = evaluator.protocol("fd_digits", "best", "validation")
    assert (protocol["fakes"], protocol["reals"]) == (300, 100)
    fakes = torch.cat(family.made)
    assert len(fakes.unique(dim=0)) == 300
    (reals,) = served.reference(100, size=100)
    features = [Digits()(to_uint8(images))[0].double() for images in (reals.images, fakes)]
    mu = [part.mean(dim=0) for part in features]
    sigma = [part.T.cov() for part in features]
    roots = np.sqrt(np.linalg.eigvals((sigma[0] @ sigma[1]).numpy()).astype(complex)).real.sum()
    expected = (mu[0] - mu[1]).square().sum() + (sigma[0] + sigma[1]).trace() - 2 * roots
    assert value == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("keys", "final", "gpu", "expected"),
    [
        ({}, False, False, (650, 1000)),
        ({}, True, False, (650, 2600)),
        ({}, True, True, (650, 50_000)),
        ({"num_fakes": 300, "num_reals": 100}, False, False, (100, 300)),
        ({"num_fakes": 300, "num_reals": 100}, True, True, (100, 300)),
    ],
)
def test_count_images_by_phase_and_device(
    keys: Any, final: bool, gpu: bool, expected: tuple[int, int]
) -> None:
    """The numbers of images depend on the phase, the device and the config."""
    digits = ImageSpec(1, 28, 28, content="digits")
    assert count_images(MetricsConfig(**keys), digits, 650, final, gpu) == expected
    assert count_images(MetricsConfig(), digits, 20_000, True, False) == (20_000, 10_000)
    pairs = ImageSpec(3, 64, 64, source_channels=3, pairs="all")
    assert count_images(MetricsConfig(), pairs, 100, True, True) == (
        100,
        100,
    )  # one translation of each
