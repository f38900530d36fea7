"""R3GAN: relativistic pairing with both zero-centred gradient penalties, on modern convolutional networks.

Huang, Gokaslan, Kuleshov, Tompkin 2024. arXiv 2501.05441, equation 2 with R1 and R2. Written from the paper alone.

Differs from the paper:
- The generator ends in a tanh, as everywhere in the lab; bilinear halving is the mean of 2 x 2 pixels.
- Learning rate and the penalties' weight fall along a cosine, by default to 0.25 and 0.1 of themselves as in the
  authors' presets; the second moment's decay stays. Their average of the weights has a half-life that grows to 500,000
  images and more.
- The channels double as the size halves, and there are fewer of them; labels enter the discriminator by a projection.
- The labels of the fakes are those of the real minibatch, so classes are drawn with the frequency of the data.
- No augmentation.
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
from gan_lab.networks.convnet import ConvNetDiscriminator, ConvNetGenerator
from gan_lab.schedules import decay_factor
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class R3GANConfig(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(64, minimum=1)
    width: int = number(64, minimum=1)  # channels of the largest maps
    blocks: int = number(2, minimum=1)  # at each size
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    gamma: float = number(1.0, minimum=0)  # weight of R1 + R2, halved
    betas: tuple[float, float] = number((0.0, 0.99), minimum=0, below=1)
    decay: Literal["linear", "cosine"] = "cosine"
    decay_to: float = number(0.25, minimum=0, maximum=1)
    gamma_to: float = number(
        0.1, minimum=0, maximum=1
    )  # the share of gamma that is left when the rates have fallen


class R3GAN(Family):
    """R3GAN: relativistic loss with R1 and R2 (Huang et al. 2024, arXiv 2501.05441)."""

    Config = R3GANConfig
    minibatches = 2

    def build_networks(self, spec: ImageSpec, cfg: R3GANConfig) -> None:
        self.conditional = spec.classes > 0
        self.generator = ConvNetGenerator(
            z_dim=cfg.z_dim,
            shape=spec.shape,
            classes=spec.classes,
            width=cfg.width,
            blocks=cfg.blocks,
        )
        self.discriminator = ConvNetDiscriminator(
            shape=spec.shape, classes=spec.classes, width=cfg.width, blocks=cfg.blocks
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        (x, y), (x_g, y_g) = self.split_minibatches(batch)
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()
        gamma = self.cfg.gamma * decay_factor(self.cfg, self.images_seen, self.cfg.gamma_to)

        with self.toggled_optimizer(opt_d):  # equation 2, real i against fake i, with R1 and R2
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            real_logits, fake_logits = D(x, y), D(fake, y)
            loss_d = losses.relativistic_d(real_logits, fake_logits)
            r1 = penalties.zero_centred(
                lambda x: D.forward(x, y), x
            )  # eager: it is differentiated twice
            r2 = penalties.zero_centred(lambda x: D.forward(x, y), fake)
            self.minimize(loss_d + 0.5 * gamma * (r1 + r2), opt_d)
        self.log_discriminator(real_logits, fake_logits, losses.LOSSES["relativistic"].threshold)

        with self.toggled_optimizer(
            opt_g
        ):  # equation 2 for the generator, with new noise and other reals
            z = G.sample_latents(self.stream("latent g"), len(x_g), like=x)
            with torch.no_grad():
                real_logits = D(x_g, y_g)
            loss_g = losses.relativistic_g(real_logits, D(G(z, y_g), y_g))
            self.minimize(loss_g, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, r1=r1, r2=r2)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = R3GAN
