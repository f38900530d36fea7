"""The generator's gradient while only the discriminator is trained."""

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

BATCH_SIZE = 64
WIDTH = 16
# Discriminator-only steps after which the gradient is measured.
MEASURED_STEPS = (0, 10, 100, 1000)


def measure(arm: Arm) -> Values:
    """Return the norm of the generator's ``gradient`` at each of MEASURED_STEPS, and its growth.

    ``rises`` is the growth from 10 steps to 1,000 in decades. The arguments of an arm are ``loss=``
    (a key of ``LOSSES``), ``gp=`` (weight of a gradient penalty) and ``images=`` (real images for
    which both networks are trained first).
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
    warmup_steps = int(arm.number("images")) // BATCH_SIZE
    gradient = []
    for step in range(warmup_steps + MEASURED_STEPS[-1] + 1):
        z, y = (
            G.sample_latents(Stream(arm.seed, purpose, step), BATCH_SIZE, like=torch.zeros(1))
            for purpose in ("d", "g")
        )
        if step - warmup_steps in MEASURED_STEPS:
            opt_g.zero_grad()
            loss_g(D(G(y))).backward()
            gradients = [weight.grad for weight in G.parameters() if weight.grad is not None]
            gradient.append(float(get_total_norm(gradients)))
        real = _sample_batch(digits, arm.seed, step)
        fake = G(z).detach()
        opt_d.zero_grad()
        loss = loss_d(D(real), D(fake))
        if gp:
            alpha = Stream(arm.seed, "alpha", step).uniform(BATCH_SIZE, like=real)
            loss = loss + gp * penalties.gradient_penalty(D, real, fake, alpha)
        loss.backward()
        opt_d.step()
        if step < warmup_steps:
            opt_g.zero_grad()
            loss_g(D(G(y))).backward()
            opt_g.step()
    return {"rises": math.log10(gradient[-1] / gradient[1]), "gradient": gradient}


def _sample_batch(digits: GANDataModule, seed: int, step: int) -> torch.Tensor:
    """Sample training images [BATCH_SIZE, 1, 28, 28] in [-1, 1] for a step."""
    rows = permutation(seed, "rows", step, len(digits.train))[:BATCH_SIZE]
    images: torch.Tensor = digits.in_range(digits.train.__getitems__(rows.tolist())).images
    return images


def draw(figure: Figure, results: Results) -> None:
    """Plot the gradient over the steps, one line per seed."""
    axes = figure.subplots()
    for number, (arm, seeds) in enumerate(results.items()):
        for values in seeds:
            axes.plot(
                [max(1, step) for step in MEASURED_STEPS],
                values["gradient"],
                "o-",
                color=f"C{number}",
                markersize=3,
                label=arm if values is seeds[0] else None,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps of the discriminator alone (the first: none)",
        ylabel="gradient of G",
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
