"""Projection in W and W+ of StyleGAN2: optimize w and the noise of an image together.

Source: Karras et al. 2020 (arXiv 1912.04958), section 5 and appendix D. W+, one w per layer, is
from Abdal et al. 2019 (arXiv 1904.03189). Differs from the paper: the loss is that of the caller
instead of LPIPS, whose weights do not ship; noise starts at the constant noise of the generator; a
class-conditional generator has the statistics of w of one class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.seeding import Stream

# latents whose w give the start and the scale of W
STATISTICS_LATENTS = 10_000
LEARNING_RATE = 0.1
# in W+, which starts near the image
LAYER_LEARNING_RATE = 0.02
# parts of the steps in which the learning rate rises linearly, and falls along a cosine
RAMP_UP_SHARE, RAMP_DOWN_SHARE = 0.05, 0.25
# standard deviation of the noise on w at the start, relative to the scale of W, and the part of the
# steps in which it falls to 0
W_NOISE_SCALE, W_NOISE_SHARE = 0.05, 0.75
NOISE_REGULARIZATION_WEIGHT = 1e5
# intermediate results; in W+ half of them in W
NUM_SNAPSHOTS = 6
# the pyramid of a noise image ends before its sides get smaller
MIN_PYRAMID_SIDE = 8


@dataclass(frozen=True)
class Styles:
    """Inputs of a synthesis network for one image: ws [num_ws, w_dim] and noises [h, w]."""

    ws: Tensor
    noise: list[Tensor]


def descend_styles(
    network: StyleGANGenerator,
    loss: Callable[[Tensor], Tensor],
    label: int | None,
    per_layer: bool,
    steps: int,
    seed: int,
) -> list[Styles]:
    """Minimize a loss of images [1, C, H, W] over w and noise, from the mean w.

    Args:
        network: The generator.
        loss: Returns one number for the image of the current styles.
        label: The class; None for an unconditional generator.
        per_layer: After ``steps`` in W, take half as many in W+, with one w for each layer. W+ from
            the mean w takes more steps to come as close.
        steps: Number of steps of Adam.
        seed: Of the latents that give the statistics of w, and of the noise on w.

    Returns:
        The start and ``NUM_SNAPSHOTS`` intermediate results, the last step among them.
    """
    mean, scale = measure_w(network, label, seed)
    w = mean.repeat(1, 1, 1)
    noise = [_normalize(each) for each in network.list_constant_noise()]
    way = [_read_styles(w, noise, network.num_ws)]
    if not per_layer:
        way += _descend(network, loss, w, noise, steps, NUM_SNAPSHOTS, seed, scale)
        return way
    way += _descend(network, loss, w, noise, steps, NUM_SNAPSHOTS // 2, seed, scale)
    w, noise = way[-1].ws[None], [each[None, None] for each in way[-1].noise]
    way += _descend(
        network,
        loss,
        w,
        noise,
        math.ceil(steps / 2),
        NUM_SNAPSHOTS // 2,
        seed,
        0.0,
        LAYER_LEARNING_RATE,
    )
    return way


def _descend(
    network: StyleGANGenerator,
    loss: Callable[[Tensor], Tensor],
    w: Tensor,
    noise: Sequence[Tensor],
    steps: int,
    snapshots: int,
    seed: int,
    scale: float,
    learning_rate: float = LEARNING_RATE,
) -> list[Styles]:
    """Descend from w [1, 1 or num_ws, w_dim] and noise images [1, 1, h, w]; return snapshots.

    ``scale`` is the scale of W for the noise on w; 0: no noise.
    """
    w = w.clone().requires_grad_()
    noise = [each.clone().requires_grad_() for each in noise]
    optimizer = Adam([w, *noise], lr=learning_rate)
    way = []
    for step in range(steps):
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * compute_ramp(share)
        spread = W_NOISE_SCALE * scale * max(0.0, 1 - share / W_NOISE_SHARE) ** 2
        jitter = Stream(seed, "projection", step).normal(*w.shape, like=w)
        ws = (w + spread * jitter).expand(-1, network.num_ws, -1)
        image = network.synthesis(ws, noise)
        penalty = torch.stack([measure_autocorrelation(each) for each in noise]).sum()
        optimizer.zero_grad()
        (loss(image) + NOISE_REGULARIZATION_WEIGHT * penalty).backward()
        optimizer.step()
        with torch.no_grad():
            for each in noise:
                each.copy_(_normalize(each))
        # at the end of each of as many equal parts
        if (step + 1) * snapshots // steps > step * snapshots // steps:
            way.append(_read_styles(w, noise, network.num_ws))
    return way


@torch.no_grad()
def measure_w(network: StyleGANGenerator, label: int | None, seed: int) -> tuple[Tensor, float]:
    """Measure the mean w [w_dim] of a class, and the root mean square distance from it."""
    z = network.sample_latents(
        Stream(seed, "w statistics"), STATISTICS_LATENTS, network.mapping.w_avg
    )
    labels = None
    if label is not None:
        labels = torch.full((len(z),), label, device=z.device)
    w = network.map_latents(z, labels)
    mean = w.mean(dim=0)
    return mean, math.sqrt(float((w - mean).square().sum(dim=1).mean()))


def compute_ramp(share: float) -> float:
    """Compute the factor on the learning rate after a share of the steps in [0, 1]."""
    down = min(1.0, (1 - share) / RAMP_DOWN_SHARE)
    return min(1.0, share / RAMP_UP_SHARE) * (0.5 - 0.5 * math.cos(math.pi * down))


def measure_autocorrelation(noise: Tensor) -> Tensor:
    """Sum the squared autocorrelations of a noise image [1, 1, h, w] at shifts of one pixel.

    Over a pyramid of the image, each level of which averages 2 x 2 pixels and doubles the result,
    so that independent noise keeps its variance. The image wraps around at its edges.
    """
    total = noise.new_zeros(())
    while True:
        for dim in (2, 3):
            total = total + (noise * noise.roll(1, dims=dim)).mean().square()
        height, width = noise.shape[2:]
        if min(height, width) < 2 * MIN_PYRAMID_SIDE or height % 2 or width % 2:
            return total
        noise = functional.avg_pool2d(noise, 2) * 2


def _normalize(noise: Tensor) -> Tensor:
    """Normalize a noise image to mean 0 and variance 1."""
    centered = noise.detach() - noise.detach().mean()
    return centered * torch.rsqrt(centered.square().mean())


def _read_styles(w: Tensor, noise: Sequence[Tensor], num_ws: int) -> Styles:
    """Copy the parameters w [1, 1 or num_ws, w_dim] and noise [1, 1, h, w] of one image."""
    ws = w.detach()[0].expand(num_ws, -1).clone()
    return Styles(ws, [each.detach()[0, 0].clone() for each in noise])
