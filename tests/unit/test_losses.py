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
def test_optimal_loss_is_log_4_minus_two_jsd(
    name: str,
) -> None:
    """The loss of the optimal discriminator is log 4 minus twice the Jensen-Shannon divergence."""
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


def test_nonsaturating_gradient_is_scaled_saturating_one() -> None:
    """The non-saturating gradient is (1 - D) / D times the saturating one."""
    b = logits(16, 0)
    D = torch.sigmoid(b)
    saturating, other = slope(losses.minimax_g, b), slope(losses.nonsaturating_g, b)
    assert torch.allclose(saturating, -D / 16)  # d/db log(1 - sigmoid(b)) = -sigmoid(b)
    assert torch.allclose(other, saturating * (1 - D) / D)


def test_only_minimax_saturates_for_rejected_fakes() -> None:
    """Minimax saturates for rejected fakes, the non-saturating loss does not."""
    rejected = torch.tensor([-20.0], dtype=torch.float64)
    assert 0 < -slope(losses.minimax_g, rejected) < 1e-8
    assert -slope(losses.nonsaturating_g, rejected) > 1 - 1e-8


@pytest.mark.parametrize("name", ["minimax", "nonsaturating"])
def test_extreme_logits_do_not_overflow(name: str) -> None:
    """The loss of extreme logits is linear and does not overflow."""
    far = torch.tensor([1e4])
    assert float(getattr(losses, f"{name}_d")(-far, far)) == 2e4
    assert float(getattr(losses, f"{name}_d")(far, -far)) == 0
    assert abs(float(getattr(losses, f"{name}_g")(far if name == "minimax" else -far))) == 1e4


def test_hinge_is_constant_beyond_margin() -> None:
    """The hinge loss is constant beyond the margin and linear inside."""
    beyond, inside = torch.tensor([1.5, 4.0]), torch.tensor([-3.0, 0.9])
    zero = torch.zeros(2)
    assert slope(lambda a: losses.hinge_d(a, zero), beyond).tolist() == [0, 0]
    assert slope(lambda b: losses.hinge_d(zero, b), -beyond).tolist() == [0, 0]
    assert slope(lambda a: losses.hinge_d(a, zero), inside).tolist() == [-0.5, -0.5]
    assert slope(lambda b: losses.hinge_d(zero, b), -inside).tolist() == [0.5, 0.5]
    assert float(losses.hinge_d(torch.tensor([1.0]), torch.tensor([-1.0]))) == 0
    assert float(losses.hinge_d(torch.tensor([-2.0]), torch.tensor([3.0]))) == 3 + 4


@pytest.mark.parametrize("name", ["hinge_g", "wasserstein_g"])
def test_hinge_and_wasserstein_g_have_unit_gradient(name: str) -> None:
    """The generator's gradient of hinge and Wasserstein losses does not depend on the logit."""
    b = logits(4, 1)
    assert float(getattr(losses, name)(b)) == pytest.approx(-sum(b.tolist()) / 4)
    assert slope(getattr(losses, name), b).tolist() == [-0.25] * 4


def test_least_squares_has_targets_1_0_1() -> None:
    """Least squares has the targets 1 for reals, 0 for fakes and 1 for the generator."""
    one, zero, off = torch.ones(3), torch.zeros(3), torch.full((3,), 0.5)
    assert float(losses.least_squares_d(one, zero)) == float(losses.least_squares_g(one)) == 0
    for sign in (-1, 1):
        assert float(losses.least_squares_d(one + sign * off, zero)) == 0.125
        assert float(losses.least_squares_d(one, zero + sign * off)) == 0.125
        assert float(losses.least_squares_g(one + sign * off)) == 0.125


def test_wasserstein_d_is_antisymmetric() -> None:
    """The loss decreases as reals rise above fakes, and swapping them changes its sign."""
    a, b = logits(8, 2), logits(8, 3)
    assert losses.wasserstein_d(a, b) == -losses.wasserstein_d(b, a)
    assert float(losses.wasserstein_d(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0]))) == -2.5
    assert torch.allclose(
        losses.wasserstein_d(a + 7, b + 7), losses.wasserstein_d(a, b)
    )  # only the difference counts


@pytest.mark.parametrize("name", NAMES)
def test_patch_logits_have_loss_of_flattened_values(name: str) -> None:
    """The loss of patch logits equals that of their flattened values."""
    a, b = logits(2 * 3 * 5, 4), logits(2 * 3 * 5, 5)
    loss_d, loss_g = getattr(losses, f"{name}_d"), getattr(losses, f"{name}_g")
    patches_a, patches_b = a.view(2, 1, 3, 5), b.view(2, 1, 3, 5)
    assert loss_d(patches_a, patches_b).shape == loss_g(patches_b).shape == ()
    assert torch.allclose(loss_d(patches_a, patches_b), loss_d(a, b))
    assert torch.allclose(loss_g(patches_b), loss_g(b))


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_means_over_batch(name: str) -> None:
    """Losses are means: repeating a batch does not change them."""
    a, b = logits(6, 6), logits(6, 7)
    loss_d, loss_g = getattr(losses, f"{name}_d"), getattr(losses, f"{name}_g")
    assert torch.allclose(loss_d(a.repeat(2), b.repeat(3)), loss_d(a, b))
    assert torch.allclose(loss_g(b.repeat(3)), loss_g(b))


def test_relativistic_loss_pairs_reals_and_fakes() -> None:
    """The relativistic loss compares fake i with real i."""
    a, b = logits(8, 8), logits(8, 9)
    by_hand = (
        sum(math.log(1 + math.exp(y - x)) for x, y in zip(a.tolist(), b.tolist(), strict=True)) / 8
    )
    assert float(losses.relativistic_d(a, b)) == pytest.approx(by_hand, rel=1e-12)
    assert not torch.allclose(
        losses.relativistic_d(a, b), losses.relativistic_d(a, b.flip(0))
    )  # pairs, not means
    assert torch.equal(losses.relativistic_g(a, b), losses.relativistic_d(b, a))


def test_relativistic_losses_ignore_common_offset() -> None:
    """The relativistic losses differ by the mean difference and ignore a common offset."""
    a, b = logits(8, 10), logits(8, 11)
    # softplus(t) - softplus(-t) = t
    difference = losses.relativistic_d(a, b) - losses.relativistic_g(a, b)
    assert float(difference) == pytest.approx(float((b - a).mean()), rel=1e-12)
    for loss in (losses.relativistic_d, losses.relativistic_g):
        assert torch.allclose(loss(a + 7, b + 7), loss(a, b))
        assert float(loss(a, a)) == pytest.approx(math.log(2))


def test_relativistic_losses_require_equal_shapes() -> None:
    """Relativistic losses are means over pairs of any shape; different shapes are an error."""
    a, b = logits(30, 12), logits(30, 13)
    for loss in (losses.relativistic_d, losses.relativistic_g):
        assert torch.allclose(loss(a.view(2, 1, 3, 5), b.view(2, 1, 3, 5)), loss(a, b))
        assert torch.allclose(loss(a.repeat(2), b.repeat(2)), loss(a, b))
        assert float(loss(torch.tensor([1e4]), torch.tensor([-1e4]))) in (0, 2e4)  # and no overflow
        with pytest.raises(ValueError, match=r"\(30,\).* pairs them"):
            loss(a, b.view(30, 1))  # would be broadcast to all pairs


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("name", ["minimax_d", "nonsaturating_d"])
def test_smoothing_is_cross_entropy_of_soft_real_target(name: str, smoothing: float) -> None:
    """Label smoothing is the cross-entropy with a soft target for reals only."""
    a, b = logits(8, 14), logits(8, 15)
    loss = getattr(losses, name)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = entropy(a, torch.full_like(a, 1 - smoothing)) + entropy(b, torch.zeros_like(b))
    assert torch.allclose(loss(a, b, smoothing), expected, rtol=1e-12)
    assert torch.equal(
        slope(lambda x: loss(a, x, smoothing), b), slope(lambda x: loss(a, x), b)
    )  # one-sided
    assert torch.equal(loss(a, b, 0.0), loss(a, b))


def test_optimum_of_smoothed_labels_is_published_one() -> None:
    """D* = (1 - s) p / (p + q): Salimans et al. 2016, section 3.4, alpha = 1 - s, beta = 0."""
    reals, fakes, s = (
        torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]),
        torch.tensor([0, 1, 2, 2, 2, 2, 2, 2]),
        0.2,
    )
    p, q = (torch.bincount(points).double() / 8 for points in (reals, fakes))
    optimal = torch.logit((1 - s) * p / (p + q))
    gradient = slope(lambda at: losses.minimax_d(at[reals], at[fakes], s), optimal)
    assert torch.allclose(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_smoothed_least_squares_move_target_of_reals() -> None:
    """With smoothing, the target of reals is 1 minus the smoothing."""
    zero = torch.zeros(3)
    assert float(losses.least_squares_d(torch.full((3,), 0.7), zero, 0.3)) == pytest.approx(
        0, abs=1e-12
    )
    assert float(losses.least_squares_d(torch.full((3,), 1.0), zero, 0.3)) == pytest.approx(0.045)
    a, b = logits(4, 16), logits(4, 17)
    assert torch.equal(losses.least_squares_d(a, b, 0.0), losses.least_squares_d(a, b))
    assert torch.equal(slope(lambda x: losses.least_squares_d(a, x, 0.3), b),
                       slope(lambda x: losses.least_squares_d(a, x), b))  # fmt: skip


def test_losses_table_is_complete() -> None:
    """The table of losses has every loss, and families use only these."""
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
