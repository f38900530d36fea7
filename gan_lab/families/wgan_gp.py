"""Wasserstein GAN with gradient penalty.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017. arXiv 1704.00028, Algorithm 1.

Differs from the paper:
- One iteration is one critic step on one real minibatch; the generator moves at every n_critic-th.
- DCGAN networks by default, with layer norm or none in the critic: batch norm would tie the images of a batch
  together, and the penalty is about each image alone (section 4).
- The generator's step has a minibatch of the critic's size; the authors' residual code has twice that.
- The learning rate stays by default; the authors' residual code lets it fall to zero (`model.decay_images`).
- Scores and grids are made with averaged weights; the paper has none, and `summary.json` has the live ones' too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses, networks, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.losses import AdversarialLoss
from gan_lab.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class WGANGPConfig(ModelConfig):
    """The keys under ``model:``."""

    network: Literal["mlp", "dcgan", "resnet"] = (
        "dcgan"  # resnet: the paper's of CIFAR-10, of constant width
    )
    z_dim: int = number(100, minimum=1)
    width: int = number(
        64, minimum=1
    )  # channels of dcgan's outermost layers; a quarter of the mlp's narrowest
    norm: Literal["batch", "none"] = "batch"  # of the generator
    critic_norm: Literal["layer", "none"] = "layer"
    lr_d: float = number(1e-4, above=0)  # Algorithm 1: alpha
    lr_g: float = number(1e-4, above=0)
    betas: tuple[float, float] = number((0.0, 0.9), minimum=0, below=1)
    n_critic: int = number(5, minimum=1)
    gp_weight: float = number(10.0, minimum=0)  # Algorithm 1: lambda


class WGANGP(Family):
    """Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028).

    A variation subclasses it and replaces ``loss`` or ``penalty`` (docs/extending.md).
    """

    Config = WGANGPConfig
    loss: ClassVar[AdversarialLoss] = losses.LOSSES["wasserstein"]

    def build_networks(self, spec: ImageSpec, cfg: WGANGPConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width}
        if cfg.network == "resnet":
            self.generator = ResNetGenerator(z_dim=cfg.z_dim, norm=cfg.norm, growth=1, **sizes)
            self.discriminator = ResNetDiscriminator(
                growth=1, halvings=2, last_blocks=2, spectral=False, **sizes
            )
        else:
            self.generator = networks.generator(
                cfg.network, z_dim=cfg.z_dim, norm=cfg.norm, **sizes
            )
            self.discriminator = networks.discriminator(cfg.network, norm=cfg.critic_norm, **sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        with self.toggled_optimizer(opt_d):  # Algorithm 1, lines 2-10: the critic
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                x_tilde = G(z)
            real_logits, fake_logits = D(x), D(x_tilde)
            loss_d = self.loss.d(real_logits, fake_logits)
            penalty = self.penalty(D, x, x_tilde)
            self.minimize(loss_d + self.cfg.gp_weight * penalty, opt_d)
        self.log_scalars(loss_d=loss_d, penalty=penalty)
        if self.loss is losses.LOSSES["wasserstein"]:
            self.log_scalars(wasserstein=-loss_d)
        self.log_discriminator(real_logits, fake_logits, self.loss.threshold)

        if (self.iteration + 1) % self.cfg.n_critic == 0:  # lines 11-12: the generator
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = self.loss.g(D(G(z)))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    def penalty(self, D: Any, real: Tensor, fake: Tensor) -> Tensor:
        """The gradient penalty of the critic, a scalar: on lines between real and generated images [B, C, H, W]."""
        epsilon = self.stream("interpolation").uniform(len(real), like=real)
        # D.forward is the eager network: torch cannot differentiate a compiled one twice
        return penalties.gradient_penalty(D.forward, real, fake, epsilon)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


FAMILY = WGANGP
