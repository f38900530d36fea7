from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gan_lab.penalties import (
    clip_weights,
    gradient_penalty,
    logits_with_zero_centered_penalty,
    zero_centered_penalty,
)

SHAPE = (4, 3, 5, 6)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def linear(w: Tensor) -> object:
    return lambda x: x.flatten(1) @ w


class Recorder:
    """A critic that records the images at which its gradient is computed."""

    def __call__(self, x: Tensor) -> Tensor:
        self.x_hat = x
        return x.square().flatten(1).sum(1)


@pytest.mark.parametrize(
    "alpha", [None, torch.zeros(4), torch.ones(4), torch.tensor([0.0, 0.2, 0.7, 1.0])]
)
def test_penalty_of_linear_critic_is_closed_form(
    alpha: Tensor | None,
) -> None:
    """The penalty of a linear critic is (norm - 1)² for any interpolation."""
    w = draw(0, 90)
    penalty = gradient_penalty(linear(w), draw(1, *SHAPE), draw(2, *SHAPE), alpha)  # type: ignore[arg-type]
    assert float(penalty) == pytest.approx(float((w.norm() - 1) ** 2), rel=1e-12)
    unit = gradient_penalty(linear(w / w.norm()), draw(1, *SHAPE), draw(2, *SHAPE), alpha)  # type: ignore[arg-type]
    assert float(unit) == pytest.approx(0, abs=1e-20)


def test_penalty_is_mean_over_images() -> None:
    """The penalty is the mean over the images."""
    slopes = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)

    def critic(x: Tensor) -> Tensor:  # image i has a gradient of norm slopes[i]
        return slopes * x[:, 0, 0, 0]

    penalty = gradient_penalty(critic, draw(1, *SHAPE), draw(2, *SHAPE))
    assert float(penalty) == pytest.approx((0 + 1 + 4 + 0.25) / 4)


def test_alpha_is_one_per_image() -> None:
    critic = Recorder()
    gradient_penalty(
        critic, torch.ones(64, 3, 5, 6), torch.zeros(64, 3, 5, 6)
    )  # so that x_hat is alpha
    alpha = critic.x_hat.detach().flatten(1)
    assert torch.equal(alpha, alpha[:, :1].expand_as(alpha))
    assert len(alpha[:, 0].unique()) == 64
    assert 0 <= alpha.min() < 0.2 < 0.8 < alpha.max() <= 1


def test_alpha_0_is_the_fake_and_alpha_1_the_real_image() -> None:
    critic, real, fake = Recorder(), draw(1, *SHAPE), draw(2, *SHAPE)
    gradient_penalty(critic, real, fake, torch.tensor([0.0, 1.0, 0.25, 0.0]))
    expected = torch.stack([fake[0], real[1], 0.25 * real[2] + 0.75 * fake[2], fake[3]])
    assert torch.allclose(critic.x_hat, expected, rtol=0, atol=1e-15)


def test_penalty_gradient_is_closed_form() -> None:
    """The gradient of the penalty in the critic's weights equals its closed form."""
    w = draw(0, 90).requires_grad_()
    gradient_penalty(linear(w), draw(1, *SHAPE), draw(2, *SHAPE)).backward()  # type: ignore[arg-type]
    v = w.detach()
    assert w.grad is not None
    assert torch.allclose(w.grad, 2 * (v.norm() - 1) * v / v.norm(), rtol=1e-12)


def test_penalty_gives_images_no_gradient() -> None:
    """The images get no gradient, also from a nonlinear critic."""
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    real, fake = draw(1, *SHAPE).requires_grad_(), draw(2, *SHAPE).requires_grad_()
    gradient_penalty(lambda x: weight * x.square().flatten(1).sum(1), real, fake).backward()
    assert weight.grad is not None
    assert weight.grad.abs() > 0
    assert real.grad is None
    assert fake.grad is None


def test_penalty_of_constant_critic_is_one() -> None:
    """The penalty of a constant critic is 1 with a finite gradient."""
    w = torch.zeros(90, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(linear(w), draw(1, *SHAPE), draw(2, *SHAPE))  # type: ignore[arg-type]
    penalty.backward()
    assert float(penalty.detach()) == 1
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_penalty_under_bf16_autocast_is_float32() -> None:
    """The penalty is computed in float32 under bf16 autocast."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(90, 1), nn.Flatten(0))
    real, fake = draw(1, *SHAPE, dtype=torch.float32), draw(2, *SHAPE, dtype=torch.float32)
    alpha = torch.tensor([0.1, 0.4, 0.6, 0.9])
    norm = critic[1].weight.detach().double().norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(real).dtype == torch.bfloat16  # otherwise this test shows nothing
        mixed = gradient_penalty(critic, real, fake, alpha)
        half = gradient_penalty(critic, real.bfloat16(), fake.bfloat16(), alpha)
    assert mixed.dtype == half.dtype == torch.float32
    assert float(mixed.detach()) == pytest.approx(
        float((norm - 1) ** 2), rel=1e-5
    )  # bf16 has three digits


def test_float64_stays_float64() -> None:
    critic = Recorder()
    penalty = gradient_penalty(critic, draw(1, *SHAPE), draw(2, *SHAPE), torch.full((4,), 0.5))
    assert penalty.dtype == critic.x_hat.dtype == torch.float64


def test_penalty_of_different_shapes_raises() -> None:
    """Real and fake images of different shapes are an error."""
    with pytest.raises(ValueError, match=r"images differ: \(4, 3, 5, 6\) and \(2, 3, 5, 6\)"):
        gradient_penalty(Recorder(), draw(1, *SHAPE), draw(2, 2, 3, 5, 6))


def test_clip_weights_clamps_weights_and_biases() -> None:
    """Clipping clamps every weight and bias and does not change small ones."""
    critic = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 1))
    with torch.no_grad():
        for i, weight in enumerate(critic.parameters()):
            weight.copy_(draw(i, *weight.shape) * 0.02)
    before = [weight.detach().clone() for weight in critic.parameters()]
    clip_weights(critic.parameters(), 0.01)
    bound = torch.tensor(0.01)
    for old, new in zip(before, critic.parameters(), strict=True):
        assert new.abs().max() <= bound
        assert torch.equal(new[old.abs() <= bound], old[old.abs() <= bound])
        assert torch.equal(new[old.abs() > bound], bound * old[old.abs() > bound].sign())
    assert any((old.abs() > bound).any() for old in before)
    assert all(weight.requires_grad and weight.grad is None for weight in critic.parameters())


def test_r1_of_linear_critic_is_squared_norm() -> None:
    """The penalty of a linear critic is its squared norm, and its gradient reduces the norm."""
    w = draw(0, 90).requires_grad_()
    penalty = zero_centered_penalty(linear(w), draw(1, *SHAPE))  # type: ignore[arg-type]
    penalty.backward()
    v = w.detach()
    assert float(penalty.detach()) == pytest.approx(float(v.square().sum()), rel=1e-12)
    assert w.grad is not None
    assert torch.allclose(w.grad, 2 * v, rtol=1e-12)


def test_r1_is_mean_at_the_images() -> None:
    """The zero-centered penalty is evaluated at the images and averaged over them."""
    x = draw(1, *SHAPE)
    penalty = zero_centered_penalty(
        lambda x: 0.5 * x.square().flatten(1).sum(1), x
    )  # its gradient is the image
    assert float(penalty.detach()) == pytest.approx(float(x.square().sum()) / 4, rel=1e-12)


def test_r1_gives_images_no_gradient() -> None:
    """The zero-centered penalty gives the images no gradient."""
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = draw(1, *SHAPE).requires_grad_()
    zero_centered_penalty(lambda x: weight * x.square().flatten(1).sum(1), x).backward()
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(
        4 * 2 * 2 * float(x.detach().square().sum()) / 4
    )  # of (2 weight x)^2
    assert x.grad is None


def test_r1_and_logits_come_from_one_pass() -> None:
    """Logits and penalty of a critic, and the gradient of their sum, equal two passes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 7), nn.Tanh(), nn.Linear(7, 1)).double()
    x, passes = draw(1, *SHAPE), []

    def critic(images: torch.Tensor) -> torch.Tensor:
        passes.append(images)
        return network(images).flatten()

    logits, penalty = logits_with_zero_centered_penalty(critic, x)
    assert len(passes) == 1
    weights = [*network.parameters()]
    joint = torch.autograd.grad(logits.square().sum() + penalty, weights)
    separate = critic(x).square().sum() + zero_centered_penalty(critic, x)
    assert torch.equal(logits, critic(x))
    for one, other in zip(joint, torch.autograd.grad(separate, weights), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_r1_of_constant_critic_is_zero() -> None:
    """The zero-centered penalty of a constant critic is 0 with a finite gradient."""
    w = torch.zeros(90, dtype=torch.float64, requires_grad=True)
    penalty = zero_centered_penalty(linear(w), draw(1, *SHAPE))  # type: ignore[arg-type]
    penalty.backward()
    assert float(penalty.detach()) == 0
    assert w.grad is not None
    assert (w.grad == 0).all()


def test_r1_under_bf16_autocast_is_float32() -> None:
    """The zero-centered penalty is computed in float32 under bf16 autocast; float64 is kept."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(90, 1), nn.Flatten(0))
    x = draw(1, *SHAPE, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(x).dtype == torch.bfloat16  # otherwise this test shows nothing
        mixed, half = zero_centered_penalty(critic, x), zero_centered_penalty(critic, x.bfloat16())
    assert mixed.dtype == half.dtype == torch.float32
    expected = float(critic[1].weight.detach().double().square().sum())
    assert float(mixed.detach()) == pytest.approx(expected, rel=1e-5)  # bf16 has three digits
    assert (
        zero_centered_penalty(linear(draw(0, 90)), draw(1, *SHAPE).requires_grad_()).dtype
        == torch.float64
    )  # type: ignore[arg-type]
