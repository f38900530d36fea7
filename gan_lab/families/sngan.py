"""Spectral normalization for GANs, with a projection discriminator for labeled data.

Miyato, Kataoka, Koyama, Yoshida 2018. arXiv 1802.05957, equations 8, 16 and 17, Algorithm 1.
Miyato, Koyama 2018. arXiv 1802.05637, section 3.

Differs from the papers:
- One iteration is one discriminator step on one real minibatch. The generator is updated every
  n_critic iterations.
- Fakes get the labels of the real minibatch, so classes follow the data distribution.
- The generator's minibatch is as large as the discriminator's, not twice as large.
- The ResNets are narrower, double their channels at each downsampling, and downsample to 4 to 7
  pixels. `growth=1` and `halvings=2` give the CIFAR-10 networks, as in `sngan_cifar10`.
- The plain ConvNets of table 3 are not implemented.
- Learning rates are constant by default; the authors' code decays them linearly to zero from the
  first iteration (`model.decay_images`).
- Scores and sample grids use EMA weights, which the papers do not have. `summary.json` also has the
  scores of the raw weights.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class SNGANConfig(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(128, minimum=1)
    # channels of the outermost blocks
    width: int = number(64, minimum=1)
    # channels of the discriminator's outermost block; 0: as width
    width_d: int = number(0, minimum=0)
    # factor on the channels at each downsampling; 1: constant width
    growth: int = number(2, minimum=1)
    # downsampling blocks of the discriminator; 0: down to 4 to 7 pixels
    halvings: int = number(0, minimum=0)
    # further blocks of the discriminator at the lowest resolution
    last_blocks: int = number(1, minimum=0)
    # spectral norm of the discriminator
    spectral: bool = True
    # of the generator
    norm: Literal["batch", "none"] = "batch"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.0, 0.9), minimum=0, below=1)
    # discriminator updates per generator update
    n_critic: int = number(5, minimum=1)
    # not in the paper: gamma of the R1 penalty gamma/2 * E[|grad D(x)|^2] on reals; 0: none
    r1_weight: float = number(0.0, minimum=0)
    # lazy regularization: apply R1 every k iterations with k times the weight
    r1_every: int = number(1, minimum=1)


class SNGAN(Family):
    """Spectrally normalized GAN (Miyato et al. 2018, arXiv 1802.05957).

    With classes its discriminator is a projection discriminator (Miyato & Koyama 2018).
    """

    Config = SNGANConfig
    capturable = True

    def build_networks(self, spec: ImageSpec, cfg: SNGANConfig) -> None:
        self.conditional = spec.classes > 0
        self.generator = ResNetGenerator(
            z_dim=cfg.z_dim,
            shape=spec.shape,
            classes=spec.classes,
            width=cfg.width,
            norm=cfg.norm,
            growth=cfg.growth,
        )
        self.discriminator = ResNetDiscriminator(
            shape=spec.shape,
            classes=spec.classes,
            width=cfg.width_d or cfg.width,
            growth=cfg.growth,
            halvings=cfg.halvings,
            last_blocks=cfg.last_blocks,
            spectral=cfg.spectral,
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def phase(self) -> Hashable:
        gamma = penalties.lazy_weight(self.cfg.r1_weight, self.cfg.r1_every, self.iteration)
        return gamma > 0, (self.iteration + 1) % self.cfg.n_critic == 0

    def step(self, batch: Batch) -> None:
        x, y = batch.images, batch.labels
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        # Algorithm 1: each forward pass of D also runs one power iteration
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            gamma = penalties.lazy_weight(self.cfg.r1_weight, self.cfg.r1_every, self.iteration)
            penalty: Tensor | float = 0.0
            if gamma:
                real_logits, r1 = penalties.logits_with_zero_centered_penalty(
                    lambda images: D.forward(images, y), x
                )
                penalty = 0.5 * gamma * r1
                self.log_scalars(r1=r1)
            else:
                real_logits = D(x, y)
            fake_logits = D(fake, y)
            # equation 16
            loss_d = losses.hinge_d(real_logits, fake_logits)
            self.minimize(loss_d + penalty, opt_d)
        self.log_scalars(loss_d=loss_d)
        self.log_discriminator(real_logits, fake_logits)

        if (self.iteration + 1) % self.cfg.n_critic == 0:
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                # equation 17
                loss_g = losses.hinge_g(D(G(z, y), y))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    @property
    def adversarial_loss(self) -> str:
        return "hinge"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = SNGAN
