"""R3GAN: relativistic pairing GAN with zero-centered gradient penalties R1 and R2, modern ConvNets.

Huang, Gokaslan, Kuleshov, Tompkin 2024. arXiv 2501.05441, equation 2 with R1 and R2. Implemented
from the paper alone.

Differs from the paper:
- The generator ends in a tanh, as all generators of the lab do. Bilinear downsampling is 2 x 2
  average pooling.
- Learning rates and penalty weight follow a cosine schedule, by default down to 0.25 and 0.1 of
  their initial values, as in the authors' presets. Adam's beta2 is constant. The half-life of the
  authors' EMA grows to 500,000 images and more.
- Channels double at each downsampling, and the networks are narrower. Labels enter the
  discriminator by projection.
- Fakes get the labels of the real minibatch, so classes follow the data distribution.
- Augmentation is off by default (`augment.policy`); the authors' presets use it, with a schedule.

`r3gan_cifar10` differs from the authors' preset for CIFAR-10 in widths and augmentation, and:
- Adam's beta2 is 0.99 throughout; theirs rises from 0.9 to 0.99.
- The half-life of the EMA is limited by the ramp (`ema.ramp=0.05`) to 1 of 20 million images;
  theirs grows from 0 to 5 million, which the key names and the run never reaches.
- The generator ends in a tanh. Downsampling averages 2 x 2 pixels; theirs filters with
  [1, 3, 3, 1] / 8.
- The last 1 x 1 convolution has a bias.
- With labels, the discriminator's logit is psi(h) plus the projection of the label; theirs is the
  projection alone.
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
    # channels at the highest resolution
    width: int = number(64, minimum=1)
    # residual blocks per resolution
    blocks: int = number(2, minimum=1)
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    # penalty weight: gamma/2 * (R1 + R2)
    gamma: float = number(1.0, minimum=0)
    betas: tuple[float, float] = number((0.0, 0.99), minimum=0, below=1)
    decay: Literal["linear", "cosine"] = "cosine"
    decay_to: float = number(0.25, minimum=0, maximum=1)
    # final value of gamma, as a fraction of the initial one; follows the learning rate schedule
    gamma_to: float = number(0.1, minimum=0, maximum=1)


class R3GAN(Family):
    """R3GAN: relativistic loss with R1 and R2 (Huang et al. 2024, arXiv 2501.05441)."""

    Config = R3GANConfig
    capturable = True
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
        gamma = self.scheduled("gamma", self._compute_gamma)

        # equation 2, max over D: real i is paired with fake i; with R1 and R2
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            # the penalties differentiate the logits of the loss: further passes would cost a third
            real_logits, r1 = penalties.logits_with_zero_centered_penalty(
                lambda images: D.forward(images, y), x
            )
            fake_logits, r2 = penalties.logits_with_zero_centered_penalty(
                lambda images: D.forward(images, y), fake
            )
            loss_d = losses.relativistic_d(real_logits, fake_logits)
            self.minimize(loss_d + 0.5 * gamma * (r1 + r2), opt_d)
        self.log_discriminator(real_logits, fake_logits, losses.LOSSES["relativistic"].threshold)

        # equation 2, min over G, with new noise and another real minibatch
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(x_g), like=x)
            with torch.no_grad():
                real_logits = D(x_g, y_g)
            loss_g = losses.relativistic_g(real_logits, D(G(z, y_g), y_g))
            self.minimize(loss_g, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, r1=r1, r2=r2)

    def _compute_gamma(self) -> float:
        """Return the weight of the penalties in this iteration."""
        return self.cfg.gamma * decay_factor(self.cfg, self.images_seen, self.cfg.gamma_to)

    @property
    def adversarial_loss(self) -> str:
        return "relativistic"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = R3GAN
