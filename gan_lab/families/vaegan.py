"""Autoencoding beyond pixels using a learned similarity metric: VAE/GAN.

Larsen, Sønderby, Larochelle, Winther 2016. arXiv 1512.09300, Algorithm 1.
With `adversarial: false` the variational autoencoder (Kingma, Welling 2014, arXiv 1312.6114) with the same encoder and
decoder: no discriminator, and the normal likelihood is one of pixels.

Differs from the paper:
- DCGAN's networks, Adam instead of RMSProp. Dis_l is the input of the discriminator's last dense layer.
- L_GAN is written as what the discriminator minimises: in Algorithm 1 as printed, the signs of L_GAN and of its update
  do not go together. The decoder's part of it is the non-saturating one: image, reconstruction and sample go through
  the discriminator as one batch, as in the authors' code, and then it knows samples of the prior so surely that -L_GAN
  itself has no gradient left.
- Scores and grids are made with averaged weights; the paper has none.
- Encoder, decoder and discriminator are updated one after the other, but no gradient is taken at a weight that this
  iteration has already moved: the updates are those of Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lab.networks.encoder import Encoder, half_squared_distance, kl_from_standard_normal
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class VAEGANConfig(ModelConfig):
    """The keys under ``model:``."""

    adversarial: bool = True  # false: the plain variational autoencoder
    z_dim: int = number(64, minimum=1)
    width: int = number(32, minimum=1)  # channels of the outermost layers of each network
    norm: Literal["batch", "none"] = "batch"
    variance: float = number(1.0, above=0)  # of the normal distribution in L_llike
    # Algorithm 1: weight of L_llike relative to L_GAN in the decoder
    gamma: float = number(2e-3, minimum=0)
    lr: float = number(1e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class VAEGAN(Family):
    """VAE/GAN (Larsen et al. 2016, arXiv 1512.09300)."""

    Config = VAEGANConfig
    ema_networks = ("generator", "encoder")
    output_names = ("generated", "reconstructed")
    discriminator: DCGANDiscriminator

    def build_networks(self, spec: ImageSpec, cfg: VAEGANConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.encoder = Encoder(z_dim=cfg.z_dim, **sizes)
        self.generator = DCGANGenerator(z_dim=cfg.z_dim, **sizes)
        if cfg.adversarial:
            self.discriminator = DCGANDiscriminator(**sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        moved = (
            [self.encoder, self.generator, self.discriminator] if self.cfg.adversarial else [self]
        )
        return [
            Adam(network.parameters(), self.cfg.lr, self.cfg.betas, fused=True) for network in moved
        ]

    def step(self, batch: Batch) -> None:
        x = batch.images
        if self.cfg.adversarial:
            self.adversarial_step(x)
        else:
            self.plain_step(x)

    def adversarial_step(self, x: Tensor) -> None:
        """Algorithm 1."""
        dec = self.generator
        D = self.augmented(self.discriminator, alike=3)  # an image, its reconstruction and a sample
        opt_enc, opt_dec, opt_dis = self.optimizer_list()
        z_p = dec.sample_latents(self.stream("prior"), len(x), like=x)

        with self.toggled_optimizer(opt_enc):  # theta_Enc: L_prior + L_llike
            z, l_prior = self.encode(x)
            _, l_llike = self.judge(D, x, dec(torch.cat([z, z_p])))
            self.minimize(l_prior + l_llike, opt_enc)

        with self.toggled_optimizer(
            opt_dec
        ):  # theta_Dec: gamma L_llike - L_GAN, which does not saturate
            fakes = dec(torch.cat([z.detach(), z_p]))  # x_tilde and x_p
            (_, x_tilde, x_p), l_llike = self.judge(D, x, fakes)
            loss_adv = losses.nonsaturating_g(x_tilde) + losses.nonsaturating_g(x_p)
            self.minimize(self.cfg.gamma * l_llike + loss_adv, opt_dec)

        with self.toggled_optimizer(
            opt_dis
        ):  # theta_Dis: L_GAN, where reconstructions and samples are fakes
            (real, reconstructed, drawn), _ = self.judge(D, x, fakes.detach())
            l_gan = losses.minimax_d(real, reconstructed) - losses.minimax_g(drawn)
            self.minimize(l_gan, opt_dis)

        self.log_scalars(loss_prior=l_prior, loss_like=l_llike, loss_d=l_gan, loss_g=loss_adv)
        self.log_discriminator(real, torch.cat([reconstructed, drawn]))

    def judge(self, D: Any, x: Tensor, fakes: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The logits [B] of x, x_tilde and x_p, and L_llike: of one batch, so that batch norm treats all three alike.

        ``fakes`` are x_tilde and x_p. Normalised by a batch of its own, a reconstruction that is darker than its image
        would have nearly the features of it.
        """
        features = D.features(torch.cat([x, fakes]))
        dis_l, dis_l_tilde, _ = features.chunk(3)
        return D.judge(features).chunk(3), self.minus_log_likelihood(dis_l, dis_l_tilde)

    def plain_step(self, x: Tensor) -> None:
        """Kingma & Welling 2014, equation 10 with one draw of the latents: encoder and decoder together."""
        (opt,) = self.optimizer_list()
        with self.toggled_optimizer(opt):
            z, l_prior = self.encode(x)
            l_llike = self.minus_log_likelihood(x, self.generator(z))
            self.minimize(l_prior + l_llike, opt)
        self.log_scalars(loss_prior=l_prior, loss_like=l_llike)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A draw z ~ q(z|x) of the posterior's latents [B, z_dim], and L_prior."""
        mean, log_variance = self.encoder(x)
        noise = self.stream("posterior").normal(len(x), self.cfg.z_dim, like=x)
        return mean + (0.5 * log_variance).exp() * noise, kl_from_standard_normal(
            mean, log_variance
        )

    def minus_log_likelihood(self, observed: Tensor, mean: Tensor) -> Tensor:
        """-log N(observed; mean, variance) without its constant, of features or pixels: summed, mean over the batch."""
        return half_squared_distance(observed, mean) / self.cfg.variance

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        mean, _ = self.encoder(batch.images)
        return {"generated": self.generate(batch, stream), "reconstructed": self.generator(mean)}

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        shown = self.outputs(batch, stream)
        return [batch.images, shown["reconstructed"], shown["generated"]]


FAMILY = VAEGAN
