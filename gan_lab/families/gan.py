"""Generative adversarial nets.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio 2014. arXiv 1406.2661, Algorithm 1. With
`network: dcgan` the networks of Radford, Metz, Chintala 2015 (arXiv 1511.06434); with `loss: least_squares` the loss of
Mao et al. 2017 (arXiv 1611.04076); with `loss: hinge` that of Lim & Ye 2017 (arXiv 1705.02894). Tricks, all off:
one-sided label smoothing (Salimans et al. 2016, arXiv 1606.03498, section 3.4), instance noise (Sønderby et al. 2016,
arXiv 1610.04490, section 4), weight decay, dropout, a head start for the discriminator, R1 (Mescheder et al. 2018,
arXiv 1801.04406, equation 9), at every k-th iteration as Karras et al. 2020 (arXiv 1912.04958, section 3.1) take it.

Differs from the paper:
- Adam instead of momentum; one discriminator step per generator step (the paper's k = 1).
- The MLP is the well-known 256-512-1024 one with batch norm and tanh, not the paper's maxout and rectifier nets.
- The minibatch of real images is the only one drawn for both steps; the latents are drawn anew for each, as there.
- Latents are normal; both papers' are uniform. Scores and grids are made with averaged weights; the papers have none,
  and `summary.json` has the scores of the live ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from gan_lab import losses, networks, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class GANConfig(ModelConfig):
    """The keys under ``model:``."""

    network: networks.Architecture = "mlp"
    z_dim: int = number(100, minimum=1)
    width: int = number(
        64, minimum=1
    )  # channels of dcgan's outermost layers; a quarter of the mlp's narrowest
    norm: Literal["batch", "none"] = "batch"  # of both networks; the mlp's discriminator has none
    loss: Literal["nonsaturating", "minimax", "least_squares", "hinge"] = "nonsaturating"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)
    # tricks for the discriminator, each off by default
    label_smoothing: float = number(0.0, minimum=0, below=1)  # the reals' target is 1 minus this
    instance_noise: float = number(
        0.0, minimum=0
    )  # standard deviation of the noise on its inputs at the start
    instance_noise_images: int = number(
        100_000, minimum=1
    )  # images over which the noise falls to zero
    weight_decay: float = number(
        0.0, minimum=0
    )  # of its weights, per step and unit of learning rate
    dropout: float = number(0.0, minimum=0, below=1)
    slope: float = number(0.2, minimum=0, maximum=1)  # of its LeakyReLU below zero; 0: ReLU
    pretrain_images: int = number(
        0, minimum=0
    )  # images that it learns from before the generator moves
    r1_weight: float = number(0.0, minimum=0)  # gamma of R1 on the reals, halved; 0: none
    # lazy R1: iterations between two penalties, each multiplied by this number
    r1_every: int = number(1, minimum=1)


class GAN(Family):
    """Generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661), DCGAN and least-squares GAN."""

    Config = GANConfig

    def build_networks(self, spec: ImageSpec, cfg: GANConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.generator = networks.generator(cfg.network, z_dim=cfg.z_dim, **sizes)
        self.discriminator = networks.discriminator(
            cfg.network, dropout=cfg.dropout, slope=cfg.slope, **sizes
        )
        self.loss_d, self.loss_g, self.threshold = losses.LOSSES[cfg.loss]
        if cfg.label_smoothing:
            if cfg.loss == "hinge":
                raise UserError(
                    f"model.label_smoothing={cfg.label_smoothing}: the hinge loss has no target to smooth"
                )
            self.loss_d = partial(self.loss_d, smoothing=cfg.label_smoothing)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        D = self.discriminator
        return [
            AdamW(
                D.parameters(),
                self.cfg.lr_d,
                self.cfg.betas,
                weight_decay=self.cfg.weight_decay,
                fused=True,
            ),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        with self.toggled_optimizer(opt_d):  # Algorithm 1: ascend the discriminator's gradient
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z)
            real, fake = (
                self.add_instance_noise(x, "noise real"),
                self.add_instance_noise(fake, "noise fake"),
            )
            real_logits, fake_logits = D(real), D(fake)
            total = loss_d = self.loss_d(real_logits, fake_logits)
            if gamma := penalties.lazy_weight(
                self.cfg.r1_weight, self.cfg.r1_every, self.iteration
            ):
                r1 = penalties.zero_centred(D.forward, real)  # eager: it is differentiated twice
                total = loss_d + 0.5 * gamma * r1
                self.log_scalars(r1=r1)
            self.minimize(total, opt_d)
        self.log_scalars(loss_d=loss_d)
        self.log_discriminator(real_logits, fake_logits, self.threshold)

        if self.images_seen >= self.cfg.pretrain_images:
            with self.toggled_optimizer(
                opt_g
            ):  # Algorithm 1: descend the generator's gradient, with new noise
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = self.loss_g(D(self.add_instance_noise(G(z), "noise g")))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    def add_instance_noise(self, images: Tensor, purpose: str) -> Tensor:
        """The discriminator's input: with instance noise, which is annealed to nothing."""
        left = 1 - self.images_seen / self.cfg.instance_noise_images
        if self.cfg.instance_noise == 0 or left <= 0:
            return images
        noise = self.stream(purpose).normal(len(images), *images.shape[1:], like=images)
        return images + self.cfg.instance_noise * left * noise

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


FAMILY = GAN
