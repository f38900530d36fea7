"""Generative adversarial nets.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio 2014. arXiv 1406.2661, Algorithm 1.
With `network: dcgan` the networks of Radford, Metz, Chintala 2015 (arXiv 1511.06434); with `loss: least_squares` the
loss of Mao et al. 2017 (arXiv 1611.04076); with `loss: hinge` that of Lim & Ye 2017 (arXiv 1705.02894).

Differs from the paper:
- Adam instead of momentum; one discriminator step per generator step (the paper's k = 1).
- The MLP is the well-known 256-512-1024 one with batch norm and tanh, not the paper's maxout and rectifier nets.
- The minibatch of real images is the only one drawn for both steps; the latents are drawn anew for each, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses, networks
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.schema import number
from gan_lab.seeding import Stream


@dataclass
class GANConfig:
    """The keys under ``model:``."""

    network: networks.Kind = "mlp"
    z_dim: int = number(100, minimum=1)
    width: int = number(64, minimum=1)  # channels of dcgan's outermost layers; the mlp has its own widths
    norm: Literal["batch", "none"] = "batch"
    loss: Literal["nonsaturating", "minimax", "least_squares", "hinge"] = "nonsaturating"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class GAN(Family):
    """See the head of this file."""

    Config = GANConfig

    def __init__(self, spec: ImageSpec, cfg: GANConfig, seed: int) -> None:
        super().__init__(spec, cfg, seed)
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.generator = networks.generator(cfg.network, z_dim=cfg.z_dim, **sizes)
        self.discriminator = networks.discriminator(cfg.network, **sizes)
        self.loss_d = getattr(losses, f"{cfg.loss}_d")
        self.loss_g = getattr(losses, f"{cfg.loss}_g")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.images
        G, D = self.generator, self.discriminator
        opt_d, opt_g = self.stepped_by()

        with self.toggled(opt_d):  # Algorithm 1: ascend the discriminator's gradient
            z = self.stream("latent d").normal(len(x), self.cfg.z_dim, like=x)
            with torch.no_grad():
                fake = G(z)
            loss_d = self.loss_d(D(x), D(fake))
            self.descend(loss_d, opt_d)

        with self.toggled(opt_g):  # Algorithm 1: descend the generator's gradient, with new noise
            z = self.stream("latent g").normal(len(x), self.cfg.z_dim, like=x)
            loss_g = self.loss_g(D(G(z)))
            self.descend(loss_g, opt_g)

        self.record(loss_d=loss_d, loss_g=loss_g)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(stream.normal(len(batch.images), self.cfg.z_dim, like=batch.images))


FAMILY = GAN
