"""Wasserstein GAN with gradient penalty.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017. arXiv 1704.00028, Algorithm 1.

Differs from the paper:
- One iteration is one critic step on one real minibatch. The generator is updated every n_critic
  iterations.
- DCGAN networks by default, with layer norm or no norm in the critic: batch norm would make the
  critic's output depend on the whole batch, but the penalty is per image (section 4).
- The generator's minibatch is as large as the critic's; in the authors' ResNet code it is twice as
  large.
- Real images are not dequantized; the authors' ResNet code adds uniform noise in [0, 1/128).
- The learning rate is constant by default; the authors' ResNet code decays it to zero
  (`model.decay_images`).
- Scores and sample grids use EMA weights, which the paper does not have. `summary.json` also has
  the scores of the raw weights.
"""

from __future__ import annotations

from collections.abc import Hashable
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

    # resnet: the paper's CIFAR-10 networks of constant width
    network: Literal["mlp", "dcgan", "resnet"] = "dcgan"
    z_dim: int = number(100, minimum=1)
    # dcgan: channels of the outermost layers; mlp: a quarter of the narrowest layer;
    # resnet: channels of all layers
    width: int = number(64, minimum=1)
    # of the generator
    norm: Literal["batch", "none"] = "batch"
    critic_norm: Literal["layer", "none"] = "layer"
    # Algorithm 1: alpha
    lr_d: float = number(1e-4, above=0)
    lr_g: float = number(1e-4, above=0)
    betas: tuple[float, float] = number((0.0, 0.9), minimum=0, below=1)
    # critic updates per generator update
    n_critic: int = number(5, minimum=1)
    # Algorithm 1: lambda
    gp_weight: float = number(10.0, minimum=0)


class WGANGP(Family):
    """Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028).

    Subclasses can override ``loss`` and ``penalty`` (docs/extending.md).
    """

    Config = WGANGPConfig
    capturable = True
    loss: ClassVar[AdversarialLoss] = losses.LOSSES["wasserstein"]

    def build_networks(self, spec: ImageSpec, cfg: WGANGPConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width}
        if cfg.network == "resnet":
            self.generator = ResNetGenerator(z_dim=cfg.z_dim, norm=cfg.norm, growth=1, **sizes)
            self.discriminator = ResNetDiscriminator(
                growth=1, halvings=2, last_blocks=2, spectral=False, pooling="mean", **sizes
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

    def phase(self) -> Hashable:
        return (self.iteration + 1) % self.cfg.n_critic == 0

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        # Algorithm 1, lines 2-10: the critic
        with self.toggled_optimizer(opt_d):
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

        # Algorithm 1, lines 11-12: the generator
        if (self.iteration + 1) % self.cfg.n_critic == 0:
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = self.loss.g(D(G(z)))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    def penalty(self, D: Any, real: Tensor, fake: Tensor) -> Tensor:
        """Compute the gradient penalty between real and generated images [B, C, H, W], a scalar."""
        epsilon = self.stream("interpolation").uniform(len(real), like=real)
        # D.forward is the eager network: torch.compile does not support double backward
        return penalties.gradient_penalty(D.forward, real, fake, epsilon)

    @property
    def adversarial_loss(self) -> str:
        # a subclass can override it
        names = [name for name, loss in losses.LOSSES.items() if loss is self.loss]
        return names[0] if names else "other"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


FAMILY = WGANGP
