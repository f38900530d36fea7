"""Checkerboard artifacts: energy of generated digits at the highest spatial frequency.

The arguments of an arm are ``upsampling=``, one of ``UPSAMPLINGS``, and ``steps=`` of training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_lab import losses, networks
from gan_lab.networks.layers import initialize_normal
from gan_lab.seeding import Stream, permutation, seed_torch
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.sample_size import load_digits, read_images
from gan_lab.utils.errors import UserError

BATCH_SIZE = 64
Z_DIM = 16
WIDTH = 16
SAMPLES = 500
# transposed_3: the kernel's size is not a multiple of the stride 2, so outputs overlap unevenly;
# transposed_4: it is; resize: nearest-neighbor upsampling, then a convolution.
UPSAMPLINGS = ("transposed_3", "transposed_4", "resize")


def build_upsampling(kind: str, channels_in: int, channels_out: int) -> nn.Module:
    """Build a layer that doubles height and width.

    Raises:
        UserError: The kind is not one of ``UPSAMPLINGS``.
    """
    if kind == "transposed_3":
        return nn.ConvTranspose2d(channels_in, channels_out, 3, 2, 1, output_padding=1)
    if kind == "transposed_4":
        return nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1)
    if kind == "resize":
        return nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(channels_in, channels_out, 3, 1, 1)
        )
    raise UserError(f"upsampling={kind} is not valid. Choose one of {', '.join(UPSAMPLINGS)}")


def build_generator(kind: str) -> nn.Sequential:
    """Build a generator of latents [N, Z_DIM] to digits [N, 1, 28, 28] in [-1, 1]."""
    generator = nn.Sequential(
        nn.Linear(Z_DIM, 2 * WIDTH * 7 * 7),
        nn.Unflatten(1, (2 * WIDTH, 7, 7)),
        nn.BatchNorm2d(2 * WIDTH),
        nn.ReLU(),
        build_upsampling(kind, 2 * WIDTH, WIDTH),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        build_upsampling(kind, WIDTH, 1),
        nn.Tanh(),
    )
    initialize_normal(generator)
    return generator


def compute_checkerboard(images: Tensor) -> float:
    """Compute the share of the spectral energy of images [N, 1, H, W] at the Nyquist frequency.

    This is the frequency of one pixel on, one pixel off, in either direction. The mean of each
    image does not count.
    """
    energy = torch.fft.fft2(images.double()).abs().square()
    energy[..., 0, 0] = 0
    rows, columns = images.shape[2] // 2, images.shape[3] // 2
    nyquist = energy[..., rows, :].sum() + energy[..., :, columns].sum()
    nyquist -= energy[..., rows, columns].sum()
    return float(nyquist / energy.sum())


def measure(arm: Arm) -> Values:
    """Return ``log_excess``, the logarithm of the samples' checkerboard relative to real digits'.

    ``log_excess_untrained`` is that before the training.
    """
    digits = load_digits()
    seed_torch(arm.seed, "weights")
    G = build_generator(arm.text("upsampling"))
    D = networks.discriminator("dcgan", shape=digits.spec.shape, width=WIDTH, norm="batch")
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.999)) for net in (D, G)]
    reals = read_images(digits, digits.test)
    real = compute_checkerboard(reals)
    untrained = _measure_samples(G, arm.seed)
    for step in range(int(arm.number("steps"))):
        rows = permutation(arm.seed, "rows", step, len(digits.train))[:BATCH_SIZE]
        x = read_images(digits, digits.train, rows)
        for optimizer, purpose in zip(optimizers, ("d", "g"), strict=True):
            fake = G(_sample_latents(arm.seed, purpose, step, BATCH_SIZE))
            if purpose == "d":
                loss = losses.nonsaturating_d(D(x), D(fake.detach()))
            else:
                loss = losses.nonsaturating_g(D(fake))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {
        "log_excess": math.log(_measure_samples(G, arm.seed) / real),
        "log_excess_untrained": math.log(untrained / real),
    }


def _sample_latents(seed: int, purpose: str, step: int, n: int) -> Tensor:
    return Stream(seed, f"latent {purpose}", step).normal(n, Z_DIM, like=torch.zeros(0))


@torch.no_grad()
def _measure_samples(G: nn.Module, seed: int) -> float:
    # Batch statistics, since an untrained network has no running ones.
    return compute_checkerboard(G(_sample_latents(seed, "samples", 0, SAMPLES)))
