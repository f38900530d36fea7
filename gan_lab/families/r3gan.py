"""R3GAN: relativistic pairing with both zero-centred gradient penalties, on modern convolutional networks.

Huang, Gokaslan, Kuleshov, Tompkin 2024. arXiv 2501.05441, equation 2 with R1 and R2. Written from the paper alone.

Differs from the paper:
- The generator ends in a tanh, as everywhere in the lab; bilinear halving is the mean of 2 x 2 pixels.
- Learning rate and the penalties' weight fall along a cosine, as there; the second moment's decay stays.
- The channels double as the size halves, and there are fewer of them; labels enter the discriminator by a projection.
- The labels of the fakes are those of the real minibatch, so classes are drawn with the frequency of the data.
- No augmentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses, penalties
from gan_lab.config.schema import number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.convnet import ConvNetDiscriminator, ConvNetGenerator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class R3GANConfig:
    """The keys under ``model:``."""

    z_dim: int = number(64, minimum=1)
    width: int = number(64, minimum=1)  # channels of the largest maps
    blocks: int = number(2, minimum=1)  # at each size
    lr: float = number(2e-4, above=0)
    gamma: float = number(1.0, minimum=0)  # weight of R1 + R2, halved
    betas: tuple[float, float] = number((0.0, 0.99), minimum=0, below=1)
    decay_images: int = number(
        0, minimum=0
    )  # images in which lr and gamma fall to final_factor times their value; 0: never
    final_factor: float = number(0.25, minimum=0, maximum=1)


class R3GAN(Family):
    """See the head of this file."""

    Config = R3GANConfig

    def __init__(self, spec: ImageSpec, cfg: R3GANConfig, seed: int) -> None:
        super().__init__(spec, cfg, seed)
        self.conditional = spec.classes > 0
        self.generator = ConvNetGenerator(
            z_dim=cfg.z_dim, shape=spec.shape, classes=spec.classes, width=cfg.width, blocks=cfg.blocks
        )
        self.discriminator = ConvNetDiscriminator(
            shape=spec.shape, classes=spec.classes, width=cfg.width, blocks=cfg.blocks
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr, self.cfg.betas, fused=True),
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch.images, batch.labels
        G, D = self.generator, self.discriminator
        opt_d, opt_g = self.optimizer_list()
        share = self.cosine_factor()
        for optimizer in (opt_d, opt_g):
            self.set_learning_rate(optimizer, self.cfg.lr * share)

        with self.toggled_optimizer(opt_d):  # equation 2, real i against fake i, with R1 and R2
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            real_logits, fake_logits = D(x, y), D(fake, y)
            loss_d = losses.relativistic_d(real_logits, fake_logits)
            r1 = penalties.zero_centred(lambda x: D.forward(x, y), x)  # eager: it is differentiated twice
            r2 = penalties.zero_centred(lambda x: D.forward(x, y), fake)
            self.minimize(loss_d + 0.5 * self.cfg.gamma * share * (r1 + r2), opt_d)
        self.log_discriminator(real_logits, fake_logits, losses.LOSSES["relativistic"].threshold)

        with self.toggled_optimizer(opt_g):  # equation 2 for the generator, with new noise
            z = G.sample_latents(self.stream("latent g"), len(x), like=x)
            with torch.no_grad():
                real_logits = D(x, y)
            loss_g = losses.relativistic_g(real_logits, D(G(z, y), y))
            self.minimize(loss_g, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, r1=r1, r2=r2)

    def cosine_factor(self) -> float:
        """The share of lr and gamma at this iteration: from 1 down to ``final_factor`` along half a cosine."""
        if self.cfg.decay_images == 0:
            return 1.0
        done = min(1.0, self.images_seen / self.cfg.decay_images)
        return self.cfg.final_factor + (1 - self.cfg.final_factor) * 0.5 * (1 + math.cos(math.pi * done))

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = R3GAN
