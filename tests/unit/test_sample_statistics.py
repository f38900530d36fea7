"""Statistics of generated images against closed forms."""

from __future__ import annotations

import pytest
import torch

from gan_lab.training.callbacks import sample_statistics as statistics


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_energy_distance_of_same_distribution_is_about_zero() -> None:
    points = draw(600, 5)
    real, same, shifted = points[:200], points[200:400], points[400:] + 2
    spread = float(statistics.mean_pairwise_distance(real))
    assert float(statistics.energy_distance(same, real, spread)) == pytest.approx(0, abs=0.03)
    assert float(statistics.energy_distance(shifted, real, spread)) > 1
    # an invariant of the ratio
    assert float(statistics.energy_distance(9 * shifted, 9 * real, 9 * spread)) == pytest.approx(
        float(statistics.energy_distance(shifted, real, spread))
    )


def test_energy_distance_of_two_points_has_closed_form() -> None:
    """Fakes at 0, reals at 0 and d: 2 d/2 - 0 - d = 0, relative to d; fakes at 3d: 2 5d/2 - d."""
    real, spread = torch.tensor([[0.0], [2.0]]), 2.0
    at_zero = torch.zeros(4, 1)
    assert float(statistics.energy_distance(at_zero, real, spread)) == 0
    assert float(statistics.energy_distance(at_zero + 6, real, spread)) == pytest.approx(4)


def test_color_spread_of_gray_and_of_one_tint_is_zero() -> None:
    images = draw(8, 3, 6, 6)
    spread = float(statistics.color_spread(images))
    gray = images.mean(dim=1, keepdim=True)
    assert float(statistics.color_spread(gray.expand(-1, 3, -1, -1))) == pytest.approx(0, abs=1e-9)
    tint = torch.tensor([1.0, 0.7, 0.2], dtype=torch.float64).view(1, 3, 1, 1)
    assert float(statistics.color_spread(gray * tint)) == pytest.approx(0, abs=1e-3 * spread)
    assert float(statistics.color_spread(gray + tint)) == pytest.approx(0, abs=1e-9)


def test_color_spread_scales_with_saturation_alone() -> None:
    images = draw(8, 3, 6, 6)
    gray = images.mean(dim=1, keepdim=True)
    spread = float(statistics.color_spread(images))
    half = gray + 0.5 * (images - gray)
    assert float(statistics.color_spread(half)) == pytest.approx(0.5 * spread)
    assert float(statistics.color_spread(images + 3 * gray)) == pytest.approx(spread)


def test_roughness_is_one_of_noise_two_of_checkerboard_zero_of_smooth() -> None:
    assert float(statistics.roughness(draw(64, 1, 32, 32))) == pytest.approx(1, abs=0.02)
    checkerboard = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert float(statistics.roughness(checkerboard[None, None])) == pytest.approx(2)
    slope = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    assert float(statistics.roughness(slope)) < 0.01
    assert float(statistics.roughness(torch.ones(2, 1, 4, 4))) == 0


def test_rank_probability_equals_mann_whitney() -> None:
    from scipy.stats import mannwhitneyu

    first, second = draw(30), draw(50)[10:] + 0.3
    expected = mannwhitneyu(first.numpy(), second.numpy()).statistic / (30 * 40)
    assert float(statistics.rank_probability(first, second)) == pytest.approx(expected)
    assert float(statistics.rank_probability(torch.zeros(3), torch.zeros(4))) == 0.5
    assert float(statistics.rank_probability(torch.ones(3), torch.zeros(4))) == 1


def test_class_distances_are_those_of_each_class() -> None:
    features = torch.tensor([[0.0], [3.0], [5.0], [5.0], [9.0]])
    groups = statistics.rows_by_label(torch.tensor([0, 0, 1, 1, 2]))
    assert statistics.class_distances(features, groups).tolist() == [3, 0, 0]
    assert statistics.nearest_distances(features, groups).tolist() == [3, 3, 0, 0]
