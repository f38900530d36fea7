"""Wasserstein GAN, with weight clipping.

Arjovsky, Chintala, Bottou 2017. arXiv 1701.07875, Algorithm 1.

Differs from the paper:
- One iteration is one critic step on one real minibatch. The generator is updated every n_critic
  iterations. The authors' code takes 100 instead of 5 critic steps for the first 25 generator steps
  and for every 500th; this is not implemented.
- Scores and sample grids use EMA weights, which the paper does not have. `summary.json` also has
  the scores of the raw weights.
- Clipping includes the scales of batch norm, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import RMSprop

from gan_lab import losses, networks, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class WGANConfig(ModelConfig):
    """The keys under ``model:``."""

    network: networks.Architecture = "dcgan"
    z_dim: int = number(100, minimum=1)
    # dcgan: channels of the outermost layers; mlp: a quarter of the narrowest layer
    width: int = number(64, minimum=1)
    # of both networks, except the mlp critic, which has none
    norm: Literal["batch", "none"] = "batch"
    # Algorithm 1: alpha
    lr_d: float = number(5e-5, above=0)
    lr_g: float = number(5e-5, above=0)
    # Algorithm 1: c, the bound of the critic's weights
    clip: float = number(0.01, above=0)
    # critic updates per generator update
    n_critic: int = number(5, minimum=1)


class WGAN(Family):
    """Wasserstein GAN with weight clipping (Arjovsky et al. 2017, arXiv 1701.07875)."""

    Config = WGANConfig
    capturable = True

    def build_networks(self, spec: ImageSpec, cfg: WGANConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.generator = networks.generator(cfg.network, z_dim=cfg.z_dim, **sizes)
        self.discriminator = networks.discriminator(cfg.network, **sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            RMSprop(self.discriminator.parameters(), self.cfg.lr_d),
            RMSprop(self.generator.parameters(), self.cfg.lr_g),
        ]

    def phase(self) -> Hashable:
        return (self.iteration + 1) % self.cfg.n_critic == 0

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, f = self.generator, self.augmented(self.discriminator)
        opt_f, opt_g = self.optimizer_list()

        # Algorithm 1, lines 2-8: the critic
        with self.toggled_optimizer(opt_f):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z)
            real_logits, fake_logits = f(x), f(fake)
            loss_d = losses.wasserstein_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_f)
            penalties.clip_weights(f.parameters(), self.cfg.clip)
        self.log_scalars(loss_d=loss_d, wasserstein=-loss_d)
        self.log_discriminator(real_logits, fake_logits, losses.LOSSES["wasserstein"].threshold)

        # Algorithm 1, lines 9-11: the generator
        if (self.iteration + 1) % self.cfg.n_critic == 0:
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = losses.wasserstein_g(f(G(z)))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    @property
    def adversarial_loss(self) -> str:
        return "wasserstein"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


FAMILY = WGAN
