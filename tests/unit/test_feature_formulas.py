from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_isc import (
    KEY_METRIC_ISC_MEAN,
    KEY_METRIC_ISC_STD,
    isc_features_to_metric,
)
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_lab.metrics import extractors, frechet
from gan_lab.metrics import inception_score as inception
from gan_lab.metrics import manifold as manifolds
from gan_lab.metrics.frechet import moments
from gan_lab.metrics.kernel import kernel_distance
from gan_lab.metrics.manifold import compute_radii
from gan_lab.metrics.manifold import precision_recall_density_coverage as manifold
from gan_lab.metrics.nearest_neighbors import nearest_ratio
from gan_lab.metrics.neighbor_search import NeighborSearch, find_nearest
from tests.helpers.logs import logged


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    return frechet.frechet_distance(moments(real), moments(fake))


def inception_score(logits: Tensor, splits: int) -> float:
    return inception.inception_score(logits, splits)[0]


def draw(n: int, size: int, seed: int) -> Tensor:
    return torch.randn(n, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matched(mean: Tensor, covariance: Tensor, seed: int, n: int = 400) -> Tensor:
    """Features whose sample mean and sample covariance are exactly these."""
    x = draw(n, len(mean), seed)
    white = (x - x.mean(dim=0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_of_diagonal_gaussians_is_closed_form() -> None:
    """The Fréchet distance of diagonal Gaussians equals its closed form."""
    means = torch.tensor([[0.0, 1, -2, 3], [0.5, 1, 2, 2.5]], dtype=torch.float64)
    spreads = torch.tensor([[1.0, 2, 0.5, 3], [2, 2, 1.5, 0.1]], dtype=torch.float64)
    real, fake = (matched(means[i], torch.diag(spreads[i] ** 2), seed=i) for i in range(2))
    closed = float((means[0] - means[1]).square().sum() + (spreads[0] - spreads[1]).square().sum())
    assert frechet_distance(real, fake) == pytest.approx(closed, rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(closed, rel=1e-6)


def test_frechet_of_correlated_gaussians_is_closed_form() -> None:
    """The Fréchet distance of correlated Gaussians equals its closed form."""

    def covariance(correlation: float, scale: float) -> Tensor:
        return scale * torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)

    zero = torch.zeros(2, dtype=torch.float64)
    real, fake = matched(zero, covariance(0.9, 1), 0), matched(zero, covariance(-0.5, 4), 1)
    # both have the eigenvectors (1, 1) and (1, -1), so the roots of the eigenvalues are compared
    closed = (math.sqrt(1.9) - math.sqrt(2)) ** 2 + (math.sqrt(0.1) - math.sqrt(6)) ** 2
    assert frechet_distance(real, fake) == pytest.approx(closed, rel=1e-6)


def test_frechet_of_set_to_itself_is_zero() -> None:
    """The Fréchet distance of a set to itself is zero in any order."""
    x = draw(300, 64, 0).float()
    assert frechet_distance(x, x) <= 1e-6
    assert 0 <= frechet_distance(x, x.flip(0)) <= 1e-6


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    x, y = draw(500, 8, 0), draw(300, 8, 1) * 2 + 1
    parts = [moments(part) for part in x.split(130)]
    together = {name: sum(part[name] for part in parts) for name in parts[0]}
    assert frechet.frechet_distance(together, moments(y)) == pytest.approx(
        frechet_distance(x, y), rel=1e-10
    )


@pytest.mark.parametrize(("real", "fake"), [(1, 5), (5, 1)])
def test_one_image_has_no_frechet_distance(real: int, fake: int) -> None:
    with pytest.raises(
        ValueError, match=f"Too few images for a Fréchet distance: {real} real and {fake} fake"
    ):
        frechet_distance(torch.zeros(real, 2), torch.zeros(fake, 2))


@pytest.mark.parametrize("splits", [1, 4])
def test_inception_score_of_extreme_predictions(
    splits: int,
) -> None:
    """The score is k for confident predictions of k balanced classes, 1 for uniform ones."""
    sure = 100 * torch.eye(10)[:7].repeat(400, 1)
    score = inception_score(sure, splits)
    assert score == pytest.approx(
        7, abs=1e-9 if splits == 1 else 0.1
    )  # parts are drawn: not quite balanced
    assert inception_score(torch.zeros(100, 10), splits) == pytest.approx(1)
    assert inception_score(sure[:1].repeat(100, 1), splits) == pytest.approx(1)


def test_kernel_distance_separates_distributions() -> None:
    """It is zero within its standard deviation for equal distributions, and larger for others."""
    real = draw(400, 16, 0)
    each = [kernel_distance(real, draw(400, 16, seed)) for seed in range(1, 7)]
    spread = float(np.mean([sd for _, sd in each]))
    values = [mean for mean, _ in each]
    assert min(values) < 0 < max(values)  # unbiased: a square that can be negative
    assert abs(float(np.mean(values))) < spread
    moved, sd = kernel_distance(real, draw(400, 16, 1) + 0.5)
    assert moved > 10 * sd


def test_kernel_distance_is_mean_of_unbiased_estimate() -> None:
    """Over the two sets themselves, which are their own only subset of their size."""
    x, y = draw(40, 3, 0), draw(40, 3, 1) + 1

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 3 + 1) ** 3

    off = ~torch.eye(40, dtype=torch.bool)
    expected = kernel(x, x)[off].mean() + kernel(y, y)[off].mean() - 2 * kernel(x, y).mean()
    assert kernel_distance(x, y, subset_size=40)[0] == pytest.approx(float(expected), rel=1e-9)


def test_formulas_give_torch_fidelitys_values_to_the_last_bit() -> None:
    """The lab's formulas match torch-fidelity, which defines the published values."""
    real, fake = draw(70, 6, 0).float(), draw(90, 6, 1).float() * 1.5 + 0.2
    theirs = fid_statistics_to_metric(
        *(numpy_statistics(part) for part in (real, fake)), verbose=False
    )
    assert frechet_distance(real, fake) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-12)
    scores = isc_features_to_metric(fake, 4)
    assert inception.inception_score(fake, 4) == (
        scores[KEY_METRIC_ISC_MEAN],
        scores[KEY_METRIC_ISC_STD],
    )
    distance = kid_features_to_metric(
        fake, real, kid_subsets=100, kid_subset_size=35, verbose=False
    )
    assert kernel_distance(real, fake) == (
        distance[KEY_METRIC_KID_MEAN],
        distance[KEY_METRIC_KID_STD],
    )


def numpy_statistics(features: Tensor) -> dict[str, np.ndarray]:
    x = features.double().numpy()
    return {"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)}


def test_prdc_of_constructed_sets() -> None:
    """Precision, recall, density and coverage of constructed sets have the expected values."""
    line = torch.arange(20.0).view(-1, 1)
    same = manifold(line, line)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert manifold(line, line + 1000) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    # all fakes at one real: each lies in every ball that reaches it, of the others nothing is
    # recalled
    one = manifold(line, torch.full((20, 1), 10.0))
    within = sum(
        abs(10 - i) <= (5 if i in (0, 19) else 4 if i in (1, 18) else 3) for i in range(20)
    )
    assert one["precision"] == 1
    assert one["recall"] == 1 / 20
    assert one["coverage"] == within / 20
    assert one["density"] == within / 5
    # half of the fakes on the left half of the reals, half far away
    half = manifold(line, torch.cat([line[:10], line[:10] - 500]))
    assert half["precision"] == 0.5
    assert 0.5 <= half["recall"] < 0.7  # a ball reaches over the border


def test_precision_and_recall_equal_reference_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision and recall equal those of a reference implementation."""
    real, fake = draw(300, 4, 0), draw(250, 4, 1) * 0.7 + 0.3
    monkeypatch.setattr(manifolds, "BLOCK_ROWS", 77)
    theirs = prc_features_to_metric(fake, real, verbose=False)
    ours = manifold(real, fake)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert 0.1 < ours["recall"] < ours["precision"] < 1


def test_too_few_images_for_neighbors_are_refused() -> None:
    """Too few images for the neighbors are an error."""
    with pytest.raises(ValueError, match="Too few images for 5 neighbors each: 5"):
        compute_radii(draw(5, 2, 0), (3, 5))


def test_copied_reals_do_not_change_the_shares() -> None:
    """A folder that contains every image six times scores like the folder without copies."""
    real, fake = draw(60, 4, 0), draw(40, 4, 1)
    alone = manifold(real, fake)
    with logged() as said:
        copied = manifold(real.repeat(6, 1) + 1e-7 * draw(360, 4, 2), fake)
    assert copied == pytest.approx(alone, abs=1e-5)
    assert alone["precision"] > 0
    assert "60 distinct of 360 real images" in said[0]


def test_single_duplicate_does_not_change_the_formula() -> None:
    """Pairs of equal reals keep their balls, so that scores of usual sets stay as they were."""
    real, fake = draw(60, 4, 0), draw(40, 4, 1)
    with logged() as said:
        manifold(torch.cat([real, real[:5]]), fake)
    assert said == []


def ratio_of(fake: Tensor, train: Tensor, held_out: Tensor) -> float | None:
    """As it is of all training images, five hundred of which stand for all."""
    of_fakes, of_train = NeighborSearch(fake), NeighborSearch(train[:500], k=2)
    for looked in (of_fakes, of_train):
        looked.add(train)
    return nearest_ratio(
        of_fakes,
        of_train,
        *(find_nearest(points, held_out, 1)[0][:, 0] for points in (fake, train[:500])),
    )


def test_nearest_ratio_is_0_for_copies_and_1_for_new() -> None:
    """The ratio of distances is near 0 for copies and 1 for new images."""
    train, held_out, fresh = draw(2000, 4, 0), draw(500, 4, 1), draw(500, 4, 2)
    assert ratio_of(fresh, train, held_out) == pytest.approx(1, abs=0.12)
    assert ratio_of(train[700:1200] + 1e-3 * fresh, train, held_out) < 0.02
    upsample_bilinear = train[:300].repeat(2, 1)
    assert ratio_of(fresh, upsample_bilinear, held_out) is None  # nothing to compare with
    blurred = train[700:1200] + 0.1 * fresh  # a little away from what was learned
    assert 0.1 < ratio_of(blurred, train, held_out) < 0.8


def test_metrics_do_not_use_global_random_state() -> None:
    """No metric reads or changes the global random state."""
    x = draw(200, 10, 0).float()
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed)
        before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]
        values.append(
            (
                inception_score(x, 5),
                frechet_distance(x, x + 1),
                kernel_distance(x, x + 1),
                manifold(x, x + 1),
            )
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert np.array_equal(np.random.get_state()[1], before_numpy)
    assert values[0] == values[1]


def test_pixel_features_are_means_of_blocks() -> None:
    """A digit of 28 x 28 pixels has 7 x 7 blocks of 4 x 4 pixels; colors count equally."""
    levels = torch.arange(49, dtype=torch.uint8).view(1, 1, 7, 7) * 5
    blocks = levels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    expected = levels.flatten(1) / 127.5 - 1
    features, logits = extractors.load("pixels")(blocks)
    assert logits is None
    torch.testing.assert_close(features, expected)
    red = torch.cat([blocks, torch.zeros_like(blocks), torch.zeros_like(blocks)], dim=1)
    torch.testing.assert_close(
        extractors.load("pixels")(red)[0], (levels.flatten(1) / 3) / 127.5 - 1
    )
