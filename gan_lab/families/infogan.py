"""InfoGAN: interpretable representation learning by information maximizing GANs.

Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel 2016. arXiv 1606.03657, equations 5 and 6.

Differs from the paper:
- DCGAN networks, without hidden dense layers. Q is additional outputs of the discriminator's last
  layer; in the paper and the authors' code it has a hidden dense layer (of 128) of its own.
- One lambda for all codes; the authors' code has a smaller one for the continuous codes.
- Both networks are evaluated with EMA weights, which the paper does not have.

As in the authors' code, the noise is uniform, Q's Gaussian has unit variance, and both D's step and
G's step maximize the lower bound of the mutual information, since D shares its layers with Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.coded import CodedGenerator
from gan_lab.networks.dcgan import DCGANDiscriminator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class InfoGANConfig(ModelConfig):
    """The keys under ``model:``."""

    # dimension of the noise, without the codes
    z_dim: int = number(62, minimum=1)
    # number of values of the categorical code
    categories: int = number(10, minimum=2)
    # number of continuous codes, uniform in [-1, 1]
    continuous: int = number(2, minimum=0)
    # channels of the outermost layers
    width: int = number(64, minimum=1)
    norm: Literal["batch", "none"] = "batch"
    # equation 6: lambda
    info_weight: float = number(1.0, minimum=0)
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(1e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class InfoGAN(Family):
    """InfoGAN (Chen et al. 2016, arXiv 1606.03657)."""

    Config = InfoGANConfig
    capturable = True
    ema_networks = ("generator", "discriminator")
    output_names = ("generated", "code_logits")
    generator: CodedGenerator

    def build_networks(self, spec: ImageSpec, cfg: InfoGANConfig) -> None:
        self.generator = CodedGenerator(
            z_dim=cfg.z_dim,
            categories=cfg.categories,
            continuous=cfg.continuous,
            shape=spec.shape,
            width=cfg.width,
            norm=cfg.norm,
        )
        self.discriminator = DCGANDiscriminator(
            shape=spec.shape,
            width=cfg.width,
            norm=cfg.norm,
            outputs=1 + cfg.categories + cfg.continuous,
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        # equation 6, max over D and Q, which shares D's layers
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z)
            real_logits, _ = self.split_outputs(D(x))
            fake_logits, q = self.split_outputs(D(fake))
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            loss_info = self.information_loss(z, q)
            self.minimize(loss_d + self.cfg.info_weight * loss_info, opt_d)

        # equation 6, min over G, non-saturating, with new noise and codes
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(x), like=x)
            logits, q = self.split_outputs(D(G(z)))
            loss_g = losses.nonsaturating_g(logits)
            loss_info = self.information_loss(z, q)
            self.minimize(loss_g + self.cfg.info_weight * loss_info, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_info=loss_info)
        self.log_discriminator(real_logits, fake_logits)

    def split_outputs(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Split outputs into the real/fake logit [B] and Q(c|x) [B, categories + continuous].

        Q consists of the logits of the categories and the means of the continuous codes.
        """
        return outputs[:, 0], outputs[:, 1:]

    def information_loss(self, z: Tensor, q: Tensor) -> Tensor:
        """Compute -E[log Q(c|x)], the bound of equation 5 on -I(c; x), up to a constant."""
        category, codes = self.generator.split_codes(z)
        logits, means = q[:, : self.cfg.categories], q[:, self.cfg.categories :]
        gaussian = 0.5 * (codes - means).square().sum(dim=1).mean()
        return cross_entropy(logits, category) + gaussian

    def rate_reals(self, batch: Batch) -> Tensor:
        return self.split_outputs(self.discriminator(batch.images))[0]

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        _, q = self.split_outputs(self.discriminator(batch.images))
        return {
            "generated": self.generate(batch, stream),
            "code_logits": q[:, : self.cfg.categories],
        }

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        """Return 8 rows, each with the same noise and every category."""
        z = self.generator.sample_latents(stream, 8, like=batch.images)
        return [self.generator(self.generator.vary_code(z, 0).flatten(0, 1))]


FAMILY = InfoGAN
