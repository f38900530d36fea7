from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lab.data.base import Decoded
from gan_lab.data.toy import MODES, RADIUS, SPREAD, centres
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.metrics import measures
from gan_lab.metrics.digits import WEIGHTS, load_digit_classifier
from gan_lab.metrics.measures import Digits, Measure, Points, frechet_distance, inception_score
from gan_lab.metrics.offered import measurable, measures_of
from gan_lab.schema import MetricsConfig


def matched(mean: Tensor, covariance: Tensor, seed: int, n: int = 400) -> Tensor:
    """Features whose sample mean and sample covariance are exactly these."""
    x = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    white = (x - x.mean(dim=0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_diagonal_gaussians_is_the_closed_form() -> None:
    means = torch.tensor([[0.0, 1, -2, 3], [0.5, 1, 2, 2.5]], dtype=torch.float64)
    spreads = torch.tensor([[1.0, 2, 0.5, 3], [2, 2, 1.5, 0.1]], dtype=torch.float64)
    real, fake = (matched(means[i], torch.diag(spreads[i] ** 2), seed=i) for i in range(2))
    closed = float((means[0] - means[1]).square().sum() + (spreads[0] - spreads[1]).square().sum())
    assert frechet_distance(real, fake) == pytest.approx(closed, abs=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(closed, abs=1e-6)


def test_the_frechet_distance_of_correlated_gaussians_is_the_closed_form() -> None:
    def covariance(correlation: float, scale: float) -> Tensor:
        return scale * torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)

    zero = torch.zeros(2, dtype=torch.float64)
    real, fake = matched(zero, covariance(0.9, 1), 0), matched(zero, covariance(-0.5, 4), 1)
    # both have the eigenvectors (1, 1) and (1, -1), so the roots of the eigenvalues are compared
    closed = (math.sqrt(1.9) - math.sqrt(2)) ** 2 + (math.sqrt(0.1) - math.sqrt(6)) ** 2
    assert frechet_distance(real, fake) == pytest.approx(closed, abs=1e-6)


def test_the_frechet_distance_of_a_set_to_itself_in_any_order_is_zero() -> None:
    x = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) <= 1e-6
    assert 0 <= frechet_distance(x, x.flip(0)) <= 1e-6


@pytest.mark.parametrize(("real", "fake"), [(1, 5), (5, 1)])
def test_one_image_has_no_frechet_distance(real: int, fake: int) -> None:
    with pytest.raises(ValueError, match=f"needs two images or more of each kind, not {real} and {fake}"):
        frechet_distance(torch.zeros(real, 2), torch.zeros(fake, 2))


@pytest.mark.parametrize("splits", [1, 4])
def test_the_inception_score_of_k_balanced_sure_classes_is_k_and_of_no_idea_one(splits: int) -> None:
    sure = 100 * torch.eye(10)[:7].repeat(400, 1)
    score = inception_score(sure, splits)
    assert score == pytest.approx(7, abs=1e-9 if splits == 1 else 0.1)  # parts are drawn: not quite balanced
    assert inception_score(torch.zeros(100, 10), splits) == pytest.approx(1)
    assert inception_score(sure[:1].repeat(100, 1), splits) == pytest.approx(1)


def test_no_measure_touches_or_uses_the_global_random_state() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed)
        before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]
        values.append((inception_score(logits, 5), frechet_distance(logits, logits + 1)))
        assert torch.equal(torch.get_rng_state(), before)
        assert np.array_equal(np.random.get_state()[1], before_numpy)
    assert values[0] == values[1]


def test_the_classifier_knows_the_held_out_digits_as_well_as_its_record_says(sample: Decoded) -> None:
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == record["sha256"]
    with torch.no_grad():
        logits = load_digit_classifier()(to_unit(torch.from_numpy(np.asarray(sample.test_images))))
    accuracy = float((logits.argmax(dim=1).numpy() == sample.test_labels).mean())
    assert accuracy == record["accuracy"]
    assert accuracy > 0.97
    assert record["held_out_images"] == len(sample.test_labels)


def test_digits_are_judged_by_class_and_by_their_distance_to_the_reals(sample: Decoded) -> None:
    images, labels = (torch.from_numpy(np.asarray(part[::4])) for part in (sample.test_images, sample.test_labels))
    measure = Digits(conditional=True)
    real = measure.reference(Batch(images, labels))
    good = measure.scores(real, real)
    assert good["fd_digits"] < 1e-5
    assert good["digit_score"] > 9.5
    assert good["label_accuracy"] > 0.97
    swapped = measure.scores(real, measure.reference(Batch(images, (labels + 1) % 10)))
    assert swapped["label_accuracy"] < 0.02
    zeros = measure.scores(real, measure.reference(Batch(images[labels == 0], labels[labels == 0])))
    assert zeros["fd_digits"] > 10 * good["fd_digits"] + 1
    assert zeros["digit_score"] < 1.2
    assert tuple(good) == measure.names
    assert Digits(conditional=False).names == ("fd_digits", "digit_score")
    assert "label_accuracy" not in Digits(conditional=False).scores(real, Digits(False).reference(Batch(images)))


def test_colour_and_size_do_not_change_what_the_classifier_sees(sample: Decoded) -> None:
    gray = to_unit(torch.from_numpy(np.asarray(sample.test_images[:200])))
    classifier = load_digit_classifier()
    with torch.no_grad():
        assert torch.allclose(classifier(gray.expand(-1, 3, -1, -1)), classifier(gray), atol=1e-4)
        larger = torch.nn.functional.interpolate(gray, (56, 56))
        assert (classifier(larger).argmax(1) == classifier(gray).argmax(1)).double().mean() > 0.97


def test_an_exact_ring_is_covered_and_its_share_within_three_spreads_is_the_rayleigh_one() -> None:
    n, rng = 40_000, np.random.default_rng(0)
    points = centres()[rng.integers(MODES, size=n)] + SPREAD * rng.standard_normal((n, 2))
    scores = Points().scores({}, Points().reference(Batch(torch.from_numpy(points).float().view(n, 2, 1, 1))))
    share = 1 - math.exp(-4.5)  # P(r < 3 sigma) in the plane
    assert scores["modes_covered"] == 8
    assert scores["high_quality"] == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n))


@pytest.mark.parametrize(("shares", "covered"), [([800] + [0] * 7, 1), ([100] * 8, 8), ([775, 25] + [0] * 6, 2),
                                                 ([776, 24] + [0] * 6, 1)])  # fmt: skip
def test_a_mode_is_covered_with_a_quarter_of_its_share(shares: list[int], covered: int) -> None:
    points = torch.from_numpy(np.repeat(centres(), shares, axis=0)).view(-1, 2, 1, 1)
    scores = Points().scores({}, Points().reference(Batch(points)))
    assert scores == {"modes_covered": covered, "high_quality": 1.0}


def test_points_off_the_ring_cover_nothing() -> None:
    just_out = torch.tensor([[RADIUS + 3.1 * SPREAD, 0.0], [0.0, 0.0], [0.0, RADIUS - 2.9 * SPREAD]]).view(3, 2, 1, 1)
    assert Points().reference(Batch(just_out))["near"].tolist() == [False, False, True]


def names_of(spec: ImageSpec, *offers: str, conditional: bool = False) -> list[str]:
    family: Any = SimpleNamespace(offers=("generated", *offers), conditional=conditional)
    return [name for measure in measures_of(family, spec) for name in measure.names]


def test_each_content_and_each_offer_has_its_scores() -> None:
    digits = ImageSpec(1, 28, 28, content="digits")
    assert names_of(digits) == ["fd_digits", "digit_score"]
    assert names_of(digits, conditional=True) == ["fd_digits", "digit_score", "label_accuracy"]
    assert names_of(digits, "reconstructed")[2:] == ["reconstruction_accuracy", "reconstruction_psnr"]
    assert names_of(digits, "logits", "baseline_logits")[:2] == ["test_accuracy", "baseline_accuracy"]
    assert names_of(ImageSpec(2, 1, 1, content="points")) == ["modes_covered", "high_quality"]
    assert names_of(ImageSpec(3, 64, 64)) == ["fd_random"]
    horses = ImageSpec(3, 64, 64, content="horses", source_channels=3, pairs="held out")
    one_way = ["psnr", "ssim", "psnr_inside", "gain_inside", "psnr_outside"]
    both = [*one_way, *(f"back_{name}" for name in one_way), "cycle_psnr", "back_cycle_psnr"]
    assert names_of(horses) == [*one_way, "fd_random"]
    assert names_of(horses, "back", "cycled", "back_cycled") == [*both, "fd_random"]
    assert names_of(replace(horses, pairs="none")) == ["fd_random"]  # nothing is known to compare with
    gray = ImageSpec(3, 64, 64, source_channels=1, pairs="all")
    assert names_of(gray) == ["psnr", "ssim", "gain_over_mean_colour", "fd_random"]


def test_of_the_scores_the_distances_are_better_when_lower() -> None:
    every = ("fid", "kid", "fd_digits", "fd_random", "is", "digit_score", "modes_covered", "label_accuracy", "psnr",
             "gain_inside", "test_accuracy")  # fmt: skip
    assert [name for name in every if measures.lower_is_better(name)] == ["fid", "kid", "fd_digits", "fd_random"]


def test_a_distance_of_too_few_held_out_images_is_left_out_and_of_too_small_an_n_refused() -> None:
    measures_: list[Measure] = [Points(), Digits(conditional=False)]
    assert measurable(measures_, 64, MetricsConfig(n=64)) == (measures_, "")
    kept, note = measurable(measures_, 20, MetricsConfig(n=1000))
    assert kept == measures_[:1]
    assert note.startswith("fd_digits is left out: 20 images are held out, fewer than its 64 features")
    with pytest.raises(ValueError, match=r"metrics\.n=63 is below the 64 features of fd_digits"):
        measurable(measures_, 64, MetricsConfig(n=63))
    assert measurable(measures_, 20, MetricsConfig(n=10, allow_small_n=True)) == (measures_, "")
