"""Auxiliary classifier generative adversarial networks.

Odena, Olah, Shlens 2017. arXiv 1610.09585, equations 2 and 3.

Differs from the paper:
- The generator minimizes the non-saturating form of L_S, as in the other families. The form of
  equation 2 saturates.
- Fakes get the labels of the real minibatch, so classes follow the data distribution.
- DCGAN networks without dropout and without noise on the discriminator's input. One generator
  learns all classes; the paper trains one model per ten ImageNet classes.
- Scores and sample grids use EMA weights, which the paper does not have. `summary.json` also has
  the scores of the raw weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class ACGANConfig(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(100, minimum=1)
    # channels of the outermost layers
    width: int = number(64, minimum=1)
    norm: Literal["batch", "none"] = "batch"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class ACGAN(Family):
    """Auxiliary classifier GAN (Odena et al. 2017, arXiv 1610.09585)."""

    Config = ACGANConfig
    capturable = True
    conditional = True

    def build_networks(self, spec: ImageSpec, cfg: ACGANConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.generator = DCGANGenerator(z_dim=cfg.z_dim, classes=spec.classes, **sizes)
        self.discriminator = DCGANDiscriminator(outputs=1 + spec.classes, **sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x, c = batch.images, batch.labels
        assert c is not None
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        # D maximizes L_S + L_C
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, c)
            real_source, real_class = split_heads(D(x))
            fake_source, fake_class = split_heads(D(fake))
            # -L_S, equation 2
            loss_d = losses.nonsaturating_d(real_source, fake_source)
            # -L_C, equation 3
            class_d = cross_entropy(real_class, c) + cross_entropy(fake_class, c)
            self.minimize(loss_d + class_d, opt_d)

        # G maximizes L_C - L_S
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(x), like=x)
            source, fake_class = split_heads(D(G(z, c)))
            loss_g = losses.nonsaturating_g(source)
            class_g = cross_entropy(fake_class, c)
            self.minimize(loss_g + class_g, opt_g)

        self.log_scalars(loss_d=loss_d, class_d=class_d, loss_g=loss_g, class_g=class_g)
        self.log_discriminator(real_source, fake_source)

    def rate_reals(self, batch: Batch) -> Tensor:
        return split_heads(self.discriminator(batch.images))[0]

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


def split_heads(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Split outputs [B, 1 + classes] into the real/fake logit [B] and class logits [B, classes]."""
    return logits[:, 0], logits[:, 1:]


FAMILY = ACGAN
