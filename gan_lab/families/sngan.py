"""Spectral normalisation for generative adversarial networks, with a projection discriminator where there are labels.

Miyato, Kataoka, Koyama, Yoshida 2018. arXiv 1802.05957, equations 8, 16 and 17, Algorithm 1.
Miyato, Koyama 2018. arXiv 1802.05637, section 3.

Differs from the paper:
- One iteration is one discriminator step on one real minibatch; the generator moves at every n_critic-th.
- The labels of the fakes are those of the real minibatch, so classes are drawn with the frequency of the data.
- The generator's step has a minibatch of the discriminator's size, not twice that.
- The residual networks double and halve their channels as the size halves and doubles, and are narrower; they halve
  down to 4 to 7 pixels. With `growth=1` and `halvings=2` they are those of CIFAR-10, as `sngan_cifar10` has them.
- The plain convolutional networks of table 3 are not here. The learning rates stay by default; the authors' code lets
  them fall to zero from the first iteration on (`model.decay_images`).
- Scores and grids are made with averaged weights, which the paper does not have; `summary.json` has the live ones' too.
"""

from __future__ import annotations

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
    width: int = number(64, minimum=1)  # channels of the outermost blocks
    width_d: int = number(0, minimum=0)  # of the discriminator's; 0: the same
    growth: int = number(
        2, minimum=1
    )  # by which the channels multiply as the size halves; 1: they stay
    halvings: int = number(
        0, minimum=0
    )  # of the size in the discriminator; 0: down to 4 to 7 pixels
    last_blocks: int = number(1, minimum=0)  # of the discriminator after them
    norm: Literal["batch", "none"] = "batch"  # of the generator
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.0, 0.9), minimum=0, below=1)
    n_critic: int = number(5, minimum=1)
    # not the paper's: gamma of R1 on the reals, halved; 0: none
    r1_weight: float = number(0.0, minimum=0)
    # lazy R1: iterations between two penalties, each multiplied by this number
    r1_every: int = number(1, minimum=1)


class SNGAN(Family):
    """Spectrally normalized GAN, with a projection discriminator if there are classes (Miyato et al. 2018, arXiv 1802.05957)."""

    Config = SNGANConfig

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
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x, y = batch.images, batch.labels
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        with self.toggled_optimizer(
            opt_d
        ):  # Algorithm 1: each forward pass of D also does one power iteration
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            real_logits, fake_logits = D(x, y), D(fake, y)
            total = loss_d = losses.hinge_d(real_logits, fake_logits)  # equation 16
            if gamma := penalties.lazy_weight(
                self.cfg.r1_weight, self.cfg.r1_every, self.iteration
            ):
                r1 = penalties.zero_centred(
                    lambda x: D.forward(x, y), x
                )  # eager: it is differentiated twice
                total = loss_d + 0.5 * gamma * r1
                self.log_scalars(r1=r1)
            self.minimize(total, opt_d)
        self.log_scalars(loss_d=loss_d)
        self.log_discriminator(real_logits, fake_logits)

        if (self.iteration + 1) % self.cfg.n_critic == 0:
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = losses.hinge_g(D(G(z, y), y))  # equation 17
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = SNGAN
