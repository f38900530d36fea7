"""InfoGAN: interpretable representation learning by information maximizing generative adversarial nets.

Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel 2016. arXiv 1606.03657, equations 5 and 6.

Differs from the paper: - DCGAN's networks, which have no dense layers inside; Q is more outputs of the discriminator's
last layer, not a layer of its own before them. - Both networks are judged by the averaged weights; the paper has no
averages.

As in the authors' code: the noise is uniform too, Q's Gaussian has variance 1, and D's step and G's step both ascend
the mutual information's bound, since D shares its layers with Q.
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

    z_dim: int = number(62, minimum=1)  # of the noise
    categories: int = number(10, minimum=2)  # of the categorical code
    continuous: int = number(2, minimum=0)  # codes uniform in [-1, 1]
    width: int = number(64, minimum=1)  # channels of the outermost layers
    norm: Literal["batch", "none"] = "batch"
    info_weight: float = number(1.0, minimum=0)  # equation 6: lambda
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(1e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class InfoGAN(Family):
    """InfoGAN (Chen et al. 2016, arXiv 1606.03657)."""

    Config = InfoGANConfig
    ema_networks = ("generator", "discriminator")
    output_names = ("generated", "code_logits")
    generator: CodedGenerator

    def build_networks(self, spec: ImageSpec, cfg: InfoGANConfig) -> None:
        self.generator = CodedGenerator(
            z_dim=cfg.z_dim, categories=cfg.categories, continuous=cfg.continuous, shape=spec.shape, width=cfg.width,
            norm=cfg.norm,
        )  # fmt: skip
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

        with self.toggled_optimizer(
            opt_d
        ):  # equation 6, max over D and over the Q that shares its layers
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z)
            (real_logits, _), (fake_logits, q) = (
                self.split_outputs(D(x)),
                self.split_outputs(D(fake)),
            )
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_d + self.cfg.info_weight * self.loss_info(z, q), opt_d)

        with self.toggled_optimizer(opt_g):  # equation 6, min over G
            z = G.sample_latents(self.stream("latent g"), len(x), like=x)
            logits, q = self.split_outputs(D(G(z)))
            loss_g = losses.nonsaturating_g(logits)
            loss_info = self.loss_info(z, q)
            self.minimize(loss_g + self.cfg.info_weight * loss_info, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_info=loss_info)
        self.log_discriminator(real_logits, fake_logits)

    def split_outputs(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The logit of being real [B], and Q: the logits of the categories and the means of the continuous codes."""
        return outputs[:, 0], outputs[:, 1:]

    def loss_info(self, z: Tensor, q: Tensor) -> Tensor:
        """-E[log Q(c|x)] without its constant: equation 5's bound on -I(c; x) but for the entropy of the codes, a constant."""
        category, codes = self.generator.split_codes(z)
        means = q[:, self.cfg.categories :]
        return (
            cross_entropy(q[:, : self.cfg.categories], category)
            + 0.5 * (codes - means).square().sum(dim=1).mean()
        )

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
        """Rows of one noise each, along which the category changes."""
        z = self.generator.sample_latents(stream, 8, like=batch.images)
        return [self.generator(self.generator.vary_code(z, 0).flatten(0, 1))]


FAMILY = InfoGAN
