"""Gradient penalties and weight clipping of the critic.

Penalties are pure functions of (critic, images) and run in float32 or float64 at any precision.
``critic`` is a function from images [B, C, H, W] to one logit per image [B]; a conditional family
passes ``lambda x: D(x, y)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, alpha: Tensor | None = None
) -> Tensor:
    """E[(‖∇ critic(x̂)‖₂ - 1)²] at x̂ = α·real + (1 - α)·fake, with one α per image.

    Args:
        critic: Function from images [B, C, H, W] to logits [B].
        real: Real images [B, C, H, W].
        fake: Generated images [B, C, H, W].
        alpha: Interpolation weights [B] in [0, 1]; default: uniform from torch's global generator.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: The shapes of ``real`` and ``fake`` differ.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), equation 3 and Algorithm 1, lines 4-7.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"Shapes of real and fake images differ: {tuple(real.shape)} and {tuple(fake.shape)}. "
            "Pass images of the same shape"
        )
    if alpha is None:
        alpha = torch.rand(len(real), device=real.device)
    with torch.autocast(real.device.type, enabled=False):
        real, fake = _detach_as_float(real), _detach_as_float(fake)
        alpha = alpha.to(real.dtype).view(-1, *[1] * (real.dim() - 1))
        x_hat = (alpha * real + (1 - alpha) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def zero_centered_penalty(critic: Critic, images: Tensor) -> Tensor:
    """E[‖∇ critic(x)‖₂²] at the images [B, C, H, W], a scalar.

    On reals it is R1, on fakes R2, both without the factor γ/2.

    Source: Mescheder, Geiger, Nowozin 2018 (arXiv 1801.04406), equations 9 and 10.
    """
    return logits_with_zero_centered_penalty(critic, images)[1]


def logits_with_zero_centered_penalty(critic: Critic, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of images and ``zero_centered_penalty``, from one forward pass.

    The pass is in float32 at least, because the penalty is. ``critic`` must be the eager network,
    such as ``D.forward``: ``torch.compile`` does not support double backward.

    Args:
        critic: Function from images [B, C, H, W] to logits [B].
        images: Images [B, C, H, W].

    Returns:
        Logits [B] and the penalty, a scalar.
    """
    with torch.autocast(images.device.type, enabled=False):
        x = _detach_as_float(images).requires_grad_()
        logits = critic(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, gradient.square().flatten(1).sum(dim=1).mean()


def path_lengths(synthesis: Callable[[Tensor], Tensor], ws: Tensor, noise: Tensor) -> Tensor:
    """√(Σ ‖Jᵀy‖² / L): how far images move when the L vectors w of an image move.

    Args:
        synthesis: Function from ``ws`` to images [B, C, H, W].
        ws: One w per image and layer [B, L, D], with a graph or ``requires_grad``.
        noise: y before its division by √(H W), from N(0, 1), [B, C, H, W].

    Returns:
        Path lengths [B].

    Source: Karras et al. 2020 (arXiv 1912.04958), section 3.2 and appendix B.
    """
    height, width = noise.shape[2:]
    with torch.autocast(ws.device.type, enabled=False):
        projection = (synthesis(ws) * noise).sum() / math.sqrt(height * width)
        (gradient,) = torch.autograd.grad(projection, ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def _detach_as_float(images: Tensor) -> Tensor:
    """Detach images and promote them to float32 at least."""
    return images.detach().to(torch.promote_types(images.dtype, torch.float32))


def lazy_weight(weight: float, every: int, iteration: int) -> float:
    """Return a penalty's weight under lazy regularization.

    ``every`` times the weight in each ``every``-th iteration, 0 in the others.

    Source: Karras et al. 2020 (arXiv 1912.04958), section 3.1 and appendix B.
    """
    return 0.0 if iteration % every else weight * every


@torch.no_grad()
def clip_weights(weights: Iterable[Tensor], bound: float) -> None:
    """Clamp all weights to [-bound, bound], in place.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1, line 7.
    """
    for weight in weights:
        weight.clamp_(-bound, bound)
