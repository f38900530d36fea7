"""Generative adversarial nets.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio 2014. arXiv 1406.2661,
Algorithm 1.

Variants:
- `network: dcgan`: the networks of Radford, Metz, Chintala 2015 (arXiv 1511.06434).
- `loss: least_squares`: Mao et al. 2017 (arXiv 1611.04076).
- `loss: hinge`: Lim & Ye 2017 (arXiv 1705.02894).

Regularization of the discriminator, all off by default: one-sided label smoothing (Salimans et al.
2016, arXiv 1606.03498, section 3.4), instance noise (Sønderby et al. 2016, arXiv 1610.04490,
section 4), weight decay, dropout, pretraining, packing (Lin et al. 2018, arXiv 1712.04086), and R1
(Mescheder et al. 2018, arXiv 1801.04406, equation 9), optionally lazy (Karras et al. 2020, arXiv
1912.04958, section 3.1). With packing, R1 is the mean over images: that over packs is `pack` times
as large.

One iteration is one discriminator step; the generator is updated in every `n_critic`-th one, which
is k of Algorithm 1 and by default 1, as in the paper's experiments.

Differs from the paper:
- Adam instead of momentum.
- The MLP is the widely used 256-512-1024 network with batch norm and tanh, not the paper's maxout
  and ReLU networks.
- Both steps use the same real minibatch. Latents are resampled for each step, as in the paper.
- Latents are normal; in both papers they are uniform.
- Scores and sample grids use EMA weights, which the papers do not have. `summary.json` also has the
  scores of the raw weights.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from gan_lab import losses, networks, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.packing import PackedDiscriminator
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class GANConfig(ModelConfig):
    """The keys under ``model:``."""

    network: networks.Architecture = "mlp"
    z_dim: int = number(100, minimum=1)
    # dcgan: channels of the outermost layers; mlp: a quarter of the narrowest layer
    width: int = number(64, minimum=1)
    # of both networks, except the mlp discriminator, which has none
    norm: Literal["batch", "none"] = "batch"
    loss: Literal["nonsaturating", "minimax", "least_squares", "hinge"] = "nonsaturating"
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)
    # discriminator updates per generator update
    n_critic: int = number(1, minimum=1)
    # one-sided label smoothing: the target of reals is 1 minus this
    label_smoothing: float = number(0.0, minimum=0, below=1)
    # initial standard deviation of the instance noise on the discriminator's input
    instance_noise: float = number(0.0, minimum=0)
    # images over which the instance noise is annealed to 0
    instance_noise_images: int = number(100_000, minimum=1)
    # decoupled weight decay of the discriminator (AdamW)
    weight_decay: float = number(0.0, minimum=0)
    # dropout probability in the discriminator
    dropout: float = number(0.0, minimum=0, below=1)
    # negative slope of the discriminator's LeakyReLU; 0: ReLU
    slope: float = number(0.2, minimum=0, maximum=1)
    # images on which only the discriminator is trained at first
    pretrain_images: int = number(0, minimum=0)
    # images that the discriminator classifies jointly (PacGAN)
    pack: int = number(1, minimum=1)
    # gamma of the R1 penalty gamma/2 * E[|grad D(x)|^2] on reals; 0: none
    r1_weight: float = number(0.0, minimum=0)
    # lazy regularization: apply R1 every k iterations with k times the weight
    r1_every: int = number(1, minimum=1)


class GAN(Family):
    """GAN (Goodfellow et al. 2014, arXiv 1406.2661); also DCGAN and least-squares GAN."""

    Config = GANConfig
    capturable = True

    def build_networks(self, spec: ImageSpec, cfg: GANConfig) -> None:
        sizes: dict[str, Any] = {"width": cfg.width, "norm": cfg.norm}
        self.generator = networks.generator(cfg.network, z_dim=cfg.z_dim, shape=spec.shape, **sizes)
        channels, height, width = spec.shape
        self.discriminator: nn.Module = networks.discriminator(
            cfg.network,
            shape=(cfg.pack * channels, height, width),
            dropout=cfg.dropout,
            slope=cfg.slope,
            **sizes,
        )
        if cfg.pack > 1:
            self.discriminator = PackedDiscriminator(self.discriminator, cfg.pack)
        self.loss_d, self.loss_g, self.threshold = losses.LOSSES[cfg.loss]
        if cfg.label_smoothing:
            if cfg.loss == "hinge":
                raise UserError(
                    f"model.label_smoothing={cfg.label_smoothing}: the hinge loss has no target to "
                    "smooth. Set it to 0 or choose another model.loss"
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

    def phase(self) -> Hashable:
        gamma = penalties.lazy_weight(self.cfg.r1_weight, self.cfg.r1_every, self.iteration)
        return gamma > 0, self._trains_generator(), self._compute_noise_level() > 0

    def step(self, batch: Batch) -> None:
        x = batch.images
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        # Algorithm 1: ascend the discriminator's gradient
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x), like=x)
            with torch.no_grad():
                fake = G(z)
            real = self.add_instance_noise(x, "noise real")
            fake = self.add_instance_noise(fake, "noise fake")
            gamma = penalties.lazy_weight(self.cfg.r1_weight, self.cfg.r1_every, self.iteration)
            penalty: Tensor | float = 0.0
            if gamma:
                real_logits, r1 = penalties.logits_with_zero_centered_penalty(D.forward, real)
                penalty = 0.5 * gamma * r1
                self.log_scalars(r1=r1)
            else:
                real_logits = D(real)
            fake_logits = D(fake)
            loss_d = self.loss_d(real_logits, fake_logits)
            self.minimize(loss_d + penalty, opt_d)
        self.log_scalars(loss_d=loss_d)
        self.log_discriminator(real_logits, fake_logits, self.threshold)

        # Algorithm 1: descend the generator's gradient, with new noise samples
        if self._trains_generator():
            with self.toggled_optimizer(opt_g):
                z = G.sample_latents(self.stream("latent g"), len(x), like=x)
                loss_g = self.loss_g(D(self.add_instance_noise(G(z), "noise g")))
                self.minimize(loss_g, opt_g)
            self.log_scalars(loss_g=loss_g)

    def _trains_generator(self) -> bool:
        """Return whether this iteration also updates the generator."""
        is_pretraining = self.images_seen < self.cfg.pretrain_images
        return not is_pretraining and (self.iteration + 1) % self.cfg.n_critic == 0

    def add_instance_noise(self, images: Tensor, purpose: str) -> Tensor:
        """Add instance noise, annealed linearly to 0, to the discriminator's input."""
        if self._compute_noise_level() == 0:
            return images
        noise = self.stream(purpose).normal(len(images), *images.shape[1:], like=images)
        return images + self.scheduled("instance noise", self._compute_noise_level) * noise

    def _compute_noise_level(self) -> float:
        """Return the standard deviation of the instance noise in this iteration."""
        remaining = 1 - self.images_seen / self.cfg.instance_noise_images
        return self.cfg.instance_noise * max(0.0, remaining)

    @property
    def adversarial_loss(self) -> str:
        return str(self.cfg.loss)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


FAMILY = GAN
