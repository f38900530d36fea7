"""Conditional generative adversarial nets.

Mirza, Osindero 2014. arXiv 1411.1784, equation 2 with Algorithm 1 of arXiv 1406.2661.

Differs from the paper:
- Convolutional networks by default (`network: mlp`: fully connected). Adam instead of momentum.
- The non-saturating generator loss.
- Fakes get the labels of the real minibatch, so classes follow the data distribution.
- Latents are normal; in the paper they are uniform.
- Scores and sample grids use EMA weights, which the paper does not have. `summary.json` also has
  the scores of the raw weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses, networks
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class CGANConfig(ModelConfig):
    """The keys under ``model:``."""

    network: networks.Architecture = "dcgan"
    z_dim: int = number(100, minimum=1)
    # dcgan: channels of the outermost layers; mlp: a quarter of the narrowest layer
    width: int = number(64, minimum=1)
    # of both networks, except the mlp discriminator, which has none
    norm: Literal["batch", "none"] = "batch"
    # how the discriminator uses labels: as an input next to the image, or by the inner product of
    # their embedding with its features (Miyato & Koyama 2018)
    conditioning: Literal["input", "projection"] = "input"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class CGAN(Family):
    """Conditional GAN (Mirza & Osindero 2014, arXiv 1411.1784)."""

    Config = CGANConfig
    capturable = True
    conditional = True

    def build_networks(self, spec: ImageSpec, cfg: CGANConfig) -> None:
        sizes: dict[str, Any] = {
            "shape": spec.shape,
            "classes": spec.classes,
            "width": cfg.width,
            "norm": cfg.norm,
        }
        self.generator = networks.generator(cfg.network, z_dim=cfg.z_dim, **sizes)
        self.discriminator = networks.discriminator(
            cfg.network, **sizes, projection=cfg.conditioning == "projection"
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

        # equation 2, max over D
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z, y)
            real_logits, fake_logits = D(x, y), D(fake, y)
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)

        # equation 2, min over G, non-saturating, with new noise samples
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(x), like=x)
            loss_g = losses.nonsaturating_g(D(G(z, y), y))
            self.minimize(loss_g, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g)
        self.log_discriminator(real_logits, fake_logits)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        return self.generator(z, batch.labels)


FAMILY = CGAN
