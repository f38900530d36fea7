"""The gradient that a generator gets from a discriminator which has trained alone for a while."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch.nn.utils import get_total_norm

from gan_lab import data, losses, networks, penalties
from gan_lab.config import loading
from gan_lab.data.base import GANDataModule
from gan_lab.seeding import Stream, permutation, seed_torch
from gan_lab.studies.measures import Arm, Results, Values

BATCH, WIDTH = 64, 16
LOOKS = (0, 10, 100, 1000)  # steps of the discriminator alone


def measure(arm: Arm) -> Values:
    """The norm of the generator's ``gradient`` at each of LOOKS, and the decades it ``rises`` from 10 steps to 1,000.

    The words of an arm: ``loss=`` of the lab's, ``gp=`` the weight of a gradient penalty, ``images=`` that the game was
    played for before, and overrides of the experiment ``dcgan``.
    """
    loss_d, loss_g, _ = losses.LOSSES[arm.text("loss")]
    gp = arm.number("gp", default=0.0)
    config = loading.load("dcgan", ["data.source=sample", f"run.seed={arm.seed}"]).config
    digits = data.load(config.data, arm.seed)
    seed_torch(arm.seed, "weights")
    G = networks.generator("dcgan", z_dim=64, shape=digits.spec.shape, width=WIDTH, norm="batch")
    D = networks.discriminator(
        "dcgan", shape=digits.spec.shape, width=WIDTH, norm="layer" if gp else "batch"
    )
    opt_d = torch.optim.Adam(D.parameters(), 1e-3, (0.5, 0.999))
    opt_g = torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.999))
    before = int(arm.number("images")) // BATCH
    gradient = []
    for step in range(before + LOOKS[-1] + 1):
        z, y = (
            G.sample_latents(Stream(arm.seed, purpose, step), BATCH, like=torch.zeros(1))
            for purpose in ("d", "g")
        )
        if step - before in LOOKS:
            opt_g.zero_grad()
            loss_g(D(G(y))).backward()
            gradient.append(
                float(
                    get_total_norm(
                        [weight.grad for weight in G.parameters() if weight.grad is not None]
                    )
                )
            )
        real = _batch(digits, arm.seed, step)
        fake = G(z).detach()
        opt_d.zero_grad()
        loss = loss_d(D(real), D(fake))
        if gp:
            alpha = Stream(arm.seed, "alpha", step).uniform(BATCH, like=real)
            loss = loss + gp * penalties.gradient_penalty(D, real, fake, alpha)
        loss.backward()
        opt_d.step()
        if step < before:
            opt_g.zero_grad()
            loss_g(D(G(y))).backward()
            opt_g.step()
    return {"rises": math.log10(gradient[-1] / gradient[1]), "gradient": gradient}


def _batch(digits: GANDataModule, seed: int, step: int) -> torch.Tensor:
    """Training images [BATCH, 1, 28, 28] in [-1, 1], drawn anew at each step."""
    rows = permutation(seed, "rows", step, len(digits.train))[:BATCH]
    images: torch.Tensor = digits.in_range(digits.train.__getitems__(rows.tolist())).images
    return images


def draw(figure: Figure, results: Results) -> None:
    """The gradient over the steps, a line for each seed."""
    axes = figure.subplots()
    for number, (arm, seeds) in enumerate(results.items()):
        for values in seeds:
            axes.plot([max(1, look) for look in LOOKS], values["gradient"], "o-", color=f"C{number}", markersize=3,
                      label=arm if values is seeds[0] else None)  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps of the discriminator alone (the first: none)",
        ylabel="gradient of G",
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
