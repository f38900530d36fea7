from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from gan_lab import losses
from gan_lab.config import loading

NAMES = ["minimax", "nonsaturating", "least_squares", "hinge", "wasserstein"]


def logits(n: int, seed: int) -> Tensor:
    return 2 * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slope(loss: object, at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)  # type: ignore[operator]
    return gradient


@pytest.mark.parametrize("name", ["minimax_d", "nonsaturating_d"])
def test_the_optimal_discriminator_pays_log_4_minus_twice_the_jensen_shannon_divergence(
    name: str,
) -> None:
    reals, fakes = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 2, 2, 2, 2, 2])
    p, q = (torch.bincount(points).double() / 8 for points in (reals, fakes))
    optimal = (p / q).log()  # the logit of D* = p / (p + q)
    loss = getattr(losses, name)
    divergence = jensenshannon(p.numpy(), q.numpy()) ** 2
    assert float(loss(optimal[reals], optimal[fakes])) == pytest.approx(
        math.log(4) - 2 * divergence, abs=1e-12
    )
    other = optimal + torch.tensor([0.1, 0.0, 0.0])
    assert loss(other[reals], other[fakes]) > loss(optimal[reals], optimal[fakes])


def test_the_nonsaturating_gradient_is_one_minus_d_over_d_times_the_saturating_one() -> None:
    b = logits(16, 0)
    D = torch.sigmoid(b)
    saturating, other = slope(losses.minimax_g, b), slope(losses.nonsaturating_g, b)
    assert torch.allclose(saturating, -D / 16)  # d/db log(1 - sigmoid(b)) = -sigmoid(b)
    assert torch.allclose(other, saturating * (1 - D) / D)


def test_minimax_saturates_where_the_discriminator_rejects_and_nonsaturating_does_not() -> None:
    rejected = torch.tensor([-20.0], dtype=torch.float64)
    assert 0 < -slope(losses.minimax_g, rejected) < 1e-8
    assert -slope(losses.nonsaturating_g, rejected) > 1 - 1e-8


@pytest.mark.parametrize("name", ["minimax", "nonsaturating"])
def test_extreme_logits_cost_their_size_and_never_overflow(name: str) -> None:
    far = torch.tensor([1e4])
    assert float(getattr(losses, f"{name}_d")(-far, far)) == 2e4
    assert float(getattr(losses, f"{name}_d")(far, -far)) == 0
    assert abs(float(getattr(losses, f"{name}_g")(far if name == "minimax" else -far))) == 1e4


def test_hinge_is_flat_beyond_the_margin_and_linear_inside() -> None:
    beyond, inside = torch.tensor([1.5, 4.0]), torch.tensor([-3.0, 0.9])
    zero = torch.zeros(2)
    assert slope(lambda a: losses.hinge_d(a, zero), beyond).tolist() == [0, 0]
    assert slope(lambda b: losses.hinge_d(zero, b), -beyond).tolist() == [0, 0]
    assert slope(lambda a: losses.hinge_d(a, zero), inside).tolist() == [-0.5, -0.5]
    assert slope(lambda b: losses.hinge_d(zero, b), -inside).tolist() == [0.5, 0.5]
    assert float(losses.hinge_d(torch.tensor([1.0]), torch.tensor([-1.0]))) == 0
    assert float(losses.hinge_d(torch.tensor([-2.0]), torch.tensor([3.0]))) == 3 + 4


@pytest.mark.parametrize("name", ["hinge_g", "wasserstein_g"])
def test_the_generator_of_hinge_and_wasserstein_climbs_the_logit_at_any_height(name: str) -> None:
    b = logits(4, 1)
    assert float(getattr(losses, name)(b)) == pytest.approx(-sum(b.tolist()) / 4)
    assert slope(getattr(losses, name), b).tolist() == [-0.25] * 4


def test_least_squares_is_half_the_squared_distance_to_1_for_reals_0_for_fakes_and_1_for_the_generator() -> (
    None
):
    one, zero, off = torch.ones(3), torch.zeros(3), torch.full((3,), 0.5)
    assert float(losses.least_squares_d(one, zero)) == float(losses.least_squares_g(one)) == 0
    for sign in (-1, 1):
        assert float(losses.least_squares_d(one + sign * off, zero)) == 0.125
        assert float(losses.least_squares_d(one, zero + sign * off)) == 0.125
        assert float(losses.least_squares_g(one + sign * off)) == 0.125


def test_wasserstein_falls_as_reals_rise_above_fakes_and_changes_sign_when_they_are_exchanged() -> (
    None
):
    a, b = logits(8, 2), logits(8, 3)
    assert losses.wasserstein_d(a, b) == -losses.wasserstein_d(b, a)
    assert float(losses.wasserstein_d(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0]))) == -2.5
    assert torch.allclose(
        losses.wasserstein_d(a + 7, b + 7), losses.wasserstein_d(a, b)
    )  # only the difference counts


@pytest.mark.parametrize("name", NAMES)
def test_patch_logits_cost_what_their_flattened_values_cost(name: str) -> None:
    a, b = logits(2 * 3 * 5, 4), logits(2 * 3 * 5, 5)
    loss_d, loss_g = getattr(losses, f"{name}_d"), getattr(losses, f"{name}_g")
    patches_a, patches_b = a.view(2, 1, 3, 5), b.view(2, 1, 3, 5)
    assert loss_d(patches_a, patches_b).shape == loss_g(patches_b).shape == ()
    assert torch.allclose(loss_d(patches_a, patches_b), loss_d(a, b))
    assert torch.allclose(loss_g(patches_b), loss_g(b))


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_means_so_that_repeating_a_batch_changes_nothing(name: str) -> None:
    a, b = logits(6, 6), logits(6, 7)
    loss_d, loss_g = getattr(losses, f"{name}_d"), getattr(losses, f"{name}_g")
    assert torch.allclose(loss_d(a.repeat(2), b.repeat(3)), loss_d(a, b))
    assert torch.allclose(loss_g(b.repeat(3)), loss_g(b))


def test_the_relativistic_pair_judges_each_fake_against_the_real_one_beside_it() -> None:
    a, b = logits(8, 8), logits(8, 9)
    by_hand = (
        sum(math.log(1 + math.exp(y - x)) for x, y in zip(a.tolist(), b.tolist(), strict=True)) / 8
    )
    assert float(losses.relativistic_d(a, b)) == pytest.approx(by_hand, rel=1e-12)
    assert not torch.allclose(
        losses.relativistic_d(a, b), losses.relativistic_d(a, b.flip(0))
    )  # pairs, not means
    assert torch.equal(losses.relativistic_g(a, b), losses.relativistic_d(b, a))


def test_the_relativistic_losses_differ_by_the_mean_difference_and_know_no_common_height() -> None:
    a, b = logits(8, 10), logits(8, 11)
    # softplus(t) - softplus(-t) = t
    difference = losses.relativistic_d(a, b) - losses.relativistic_g(a, b)
    assert float(difference) == pytest.approx(float((b - a).mean()), rel=1e-12)
    for loss in (losses.relativistic_d, losses.relativistic_g):
        assert torch.allclose(loss(a + 7, b + 7), loss(a, b))
        assert float(loss(a, a)) == pytest.approx(math.log(2))


def test_relativistic_losses_are_means_over_pairs_of_any_shape_and_refuse_what_is_not_paired() -> (
    None
):
    a, b = logits(30, 12), logits(30, 13)
    for loss in (losses.relativistic_d, losses.relativistic_g):
        assert torch.allclose(loss(a.view(2, 1, 3, 5), b.view(2, 1, 3, 5)), loss(a, b))
        assert torch.allclose(loss(a.repeat(2), b.repeat(2)), loss(a, b))
        assert float(loss(torch.tensor([1e4]), torch.tensor([-1e4]))) in (0, 2e4)  # and no overflow
        with pytest.raises(ValueError, match=r"\(30,\).* pairs them"):
            loss(a, b.view(30, 1))  # would be broadcast to all pairs


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("name", ["minimax_d", "nonsaturating_d"])
def test_smoothing_is_the_cross_entropy_with_a_softer_target_for_the_reals_alone(
    name: str, smoothing: float
) -> None:
    a, b = logits(8, 14), logits(8, 15)
    loss = getattr(losses, name)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = entropy(a, torch.full_like(a, 1 - smoothing)) + entropy(b, torch.zeros_like(b))
    assert torch.allclose(loss(a, b, smoothing), expected, rtol=1e-12)
    assert torch.equal(
        slope(lambda x: loss(a, x, smoothing), b), slope(lambda x: loss(a, x), b)
    )  # one-sided
    assert torch.equal(loss(a, b, 0.0), loss(a, b))


def test_the_optimal_discriminator_of_smoothed_labels_is_the_published_one() -> None:
    """D* = (1 - s) p / (p + q): of Salimans et al. 2016, section 3.4, with alpha = 1 - s and beta = 0."""
    reals, fakes, s = (
        torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]),
        torch.tensor([0, 1, 2, 2, 2, 2, 2, 2]),
        0.2,
    )
    p, q = (torch.bincount(points).double() / 8 for points in (reals, fakes))
    optimal = torch.logit((1 - s) * p / (p + q))
    gradient = slope(lambda at: losses.minimax_d(at[reals], at[fakes], s), optimal)
    assert torch.allclose(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_smoothed_least_squares_pull_the_reals_to_one_minus_the_smoothing() -> None:
    zero = torch.zeros(3)
    assert float(losses.least_squares_d(torch.full((3,), 0.7), zero, 0.3)) == pytest.approx(
        0, abs=1e-12
    )
    assert float(losses.least_squares_d(torch.full((3,), 1.0), zero, 0.3)) == pytest.approx(0.045)
    a, b = logits(4, 16), logits(4, 17)
    assert torch.equal(losses.least_squares_d(a, b, 0.0), losses.least_squares_d(a, b))
    assert torch.equal(slope(lambda x: losses.least_squares_d(a, x, 0.3), b),
                       slope(lambda x: losses.least_squares_d(a, x), b))  # fmt: skip


def test_the_table_of_losses_has_every_loss_and_every_family_names_only_those() -> None:
    for part in ("d", "g"):
        written = {
            name.removesuffix(f"_{part}") for name in vars(losses) if name.endswith(f"_{part}")
        }
        assert written == losses.LOSSES.keys()
        assert all(
            getattr(losses, f"{name}_{part}") is getattr(entry, part)
            for name, entry in losses.LOSSES.items()
        )
    for family in loading.families():
        offered = get_type_hints(loading.family_class(family).Config).get("loss")
        assert set(get_args(offered)) <= losses.LOSSES.keys(), family
