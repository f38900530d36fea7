"""Adversarial losses: pure functions of logits, averaged over the batch and to be minimized.

``<name>_d(real_logits, fake_logits)`` is the loss of the discriminator or critic,
``<name>_g(fake_logits)`` that of the generator; the relativistic generator loss takes both logits.
Logits have any shape, [B] per image or [B, 1, h, w] per patch; losses are scalars. Notation:
a = real logits, b = fake logits, D = sigmoid(logit). ``LOSSES`` at the end lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu, softplus


def minimax_d(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] = E[softplus(-a)] + E[softplus(b)].

    At the optimal D it equals log 4 - 2 JSD. With one-sided label ``smoothing`` s, the target of
    reals is 1 - s: -E[(1 - s) log D(x) + s log(1 - D(x))], which adds s E[a].

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), equation 1, negated; one-sided label
    smoothing: Salimans et al. 2016 (arXiv 1606.03498), section 3.4.
    """
    loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
    return loss + smoothing * real_logits.mean() if smoothing else loss


def minimax_g(fake_logits: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))] = -E[softplus(b)].

    Saturating: the gradient vanishes if D confidently rejects the fakes.

    Source: Goodfellow et al. 2014, equation 1.
    """
    return -softplus(fake_logits).mean()


def nonsaturating_d(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Same as ``minimax_d``: the two methods differ only in the generator's loss."""
    return minimax_d(real_logits, fake_logits, smoothing)


def nonsaturating_g(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))] = E[softplus(-b)].

    Its gradient in b is (1 - D)/D times that of ``minimax_g``.

    Source: Goodfellow et al. 2014, section 3, last paragraph.
    """
    return softplus(-fake_logits).mean()


def least_squares_d(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """½ E[(a - 1)²] + ½ E[b²]; with label ``smoothing`` s, the target of reals is 1 - s.

    Source: Mao et al. 2017 (arXiv 1611.04076), equation 9 (targets 0, 1, 1).
    """
    return 0.5 * (real_logits - (1 - smoothing)).square().mean() + 0.5 * fake_logits.square().mean()


def least_squares_g(fake_logits: Tensor) -> Tensor:
    """½ E[(b - 1)²].

    Source: Mao et al. 2017, equation 9.
    """
    return 0.5 * (fake_logits - 1).square().mean()


def hinge_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - a)] + E[max(0, 1 + b)]: constant for logits beyond the margin.

    Source: Miyato et al. 2018 (arXiv 1802.05957), equation 16, after Lim & Ye 2017
    (arXiv 1705.02894).
    """
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def hinge_g(fake_logits: Tensor) -> Tensor:
    """-E[b].

    Source: Miyato et al. 2018, equation 17.
    """
    return -fake_logits.mean()


def wasserstein_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[b] - E[a]: the negative Wasserstein estimate, up to the critic's Lipschitz constant.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), equation 2 and Algorithm 1, line 5, negated.
    """
    return fake_logits.mean() - real_logits.mean()


def wasserstein_g(fake_logits: Tensor) -> Tensor:
    """-E[b].

    Source: Arjovsky et al. 2017, Algorithm 1, line 10.
    """
    return -fake_logits.mean()


def relativistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(b - a)], with real i paired with fake i; depends only on logit differences.

    Raises:
        ValueError: The shapes differ.

    Source: Huang et al. 2024 (arXiv 2501.05441), equation 2, after Jolicoeur-Martineau 2019
    (arXiv 1807.00734).
    """
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"Shapes of real and fake logits differ: {tuple(real_logits.shape)} and "
            f"{tuple(fake_logits.shape)}. The relativistic loss pairs them"
        )
    return softplus(fake_logits - real_logits).mean()


def relativistic_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(a - b)]: ``relativistic_d`` with real and fake swapped.

    Raises:
        ValueError: The shapes differ.

    Source: as ``relativistic_d``.
    """
    return relativistic_d(fake_logits, real_logits)


def patch_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
    """Compute the contrastive PatchNCE loss, averaged over layers.

    For each query the positive is the key at the same index; the negatives are the other keys of
    the same image. Keys get no gradient.

    Args:
        queries: Unit vectors of patches of the output image, [B, S, F] per layer.
        keys: Unit vectors of patches of the source image, [B, S, F] per layer.
        temperature: Divides the cosine similarities.

    Returns:
        The loss, a scalar.

    Source: Park et al. 2020 (arXiv 2007.15651), equations 2 and 3.
    """
    losses_per_layer = []
    for q, k in zip(queries, keys, strict=True):
        logits = q @ k.detach().transpose(1, 2) / temperature
        positives = torch.arange(logits.shape[2], device=logits.device).expand(len(logits), -1)
        losses_per_layer.append(cross_entropy(logits.flatten(0, 1), positives.flatten()))
    return torch.stack(losses_per_layer).mean()


class AdversarialLoss(NamedTuple):
    """The losses of both players and the discriminator's decision threshold."""

    d: Callable[..., Tensor]
    g: Callable[..., Tensor]
    # logits above it count as real; None if the loss depends only on logit differences
    threshold: float | None


LOSSES = {
    "minimax": AdversarialLoss(minimax_d, minimax_g, 0.0),
    "nonsaturating": AdversarialLoss(nonsaturating_d, nonsaturating_g, 0.0),
    "least_squares": AdversarialLoss(least_squares_d, least_squares_g, 0.5),
    "hinge": AdversarialLoss(hinge_d, hinge_g, 0.0),
    "wasserstein": AdversarialLoss(wasserstein_d, wasserstein_g, None),
    "relativistic": AdversarialLoss(relativistic_d, relativistic_g, None),
}
