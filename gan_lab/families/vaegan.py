"""Autoencoding beyond pixels using a learned similarity metric: VAE/GAN.

Larsen, Sønderby, Larochelle, Winther 2016. arXiv 1512.09300, Algorithm 1.

`adversarial: false` gives the variational autoencoder (Kingma, Welling 2014, arXiv 1312.6114) with
the same encoder and decoder: no discriminator, and a Gaussian likelihood of pixels.

Differs from the paper:
- DCGAN networks, and Adam instead of RMSProp. Dis_l is the input of the discriminator's last dense
  layer.
- L_GAN is defined as the loss that the discriminator minimizes; in Algorithm 1 as printed, the sign
  of L_GAN is inconsistent with its update.
- The decoder minimizes the non-saturating form of -L_GAN. As in the authors' code, images,
  reconstructions and samples pass through the discriminator as one batch. It then rejects samples
  from the prior with such confidence that -L_GAN itself has a vanishing gradient.
- Scores and sample grids use EMA weights, which the paper does not have.
- Encoder, decoder and discriminator are updated one after the other. No gradient is taken at a
  weight already updated in this iteration, so the updates are those of Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
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

    # false: a variational autoencoder, without a discriminator
    adversarial: bool = True
    z_dim: int = number(64, minimum=1)
    # channels of the outermost layers of each network
    width: int = number(32, minimum=1)
    norm: Literal["batch", "none"] = "batch"
    # variance of the Gaussian likelihood in L_llike
    variance: float = number(1.0, above=0)
    # Algorithm 1: weight of L_llike relative to L_GAN in the decoder's update
    gamma: float = number(2e-3, minimum=0)
    lr: float = number(1e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class VAEGAN(Family):
    """VAE/GAN (Larsen et al. 2016, arXiv 1512.09300)."""

    Config = VAEGANConfig
    capturable = True
    ema_networks = ("generator", "encoder")
    output_names = ("generated", "reconstructed")
    reconstructed_sets = (1,)
    discriminator: DCGANDiscriminator

    def build_networks(self, spec: ImageSpec, cfg: VAEGANConfig) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape, "width": cfg.width, "norm": cfg.norm}
        self.encoder = Encoder(z_dim=cfg.z_dim, **sizes)
        self.generator = DCGANGenerator(z_dim=cfg.z_dim, **sizes)
        if cfg.adversarial:
            self.discriminator = DCGANDiscriminator(**sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        modules: list[nn.Module] = [self]
        if self.cfg.adversarial:
            modules = [self.encoder, self.generator, self.discriminator]
        return [
            Adam(module.parameters(), self.cfg.lr, self.cfg.betas, fused=True) for module in modules
        ]

    def step(self, batch: Batch) -> None:
        x = batch.images
        if self.cfg.adversarial:
            self.adversarial_step(x)
        else:
            self.plain_step(x)

    def adversarial_step(self, x: Tensor) -> None:
        """Run one iteration of Algorithm 1."""
        Dec = self.generator
        # an image, its reconstruction and a sample get the same augmentation
        Dis = self.augmented(self.discriminator, chunks=3)
        opt_enc, opt_dec, opt_dis = self.optimizer_list()
        # z_p: samples from the prior p(z)
        z_p = Dec.sample_latents(self.stream("prior"), len(x), like=x)

        # theta_Enc: L_prior + L_llike
        with self.toggled_optimizer(opt_enc):
            z, l_prior = self.encode(x)
            x_tilde, x_p = Dec(torch.cat([z, z_p])).chunk(2)
            _, l_llike = self.discriminate(Dis, x, x_tilde, x_p)
            self.minimize(l_prior + l_llike, opt_enc)

        # theta_Dec: gamma L_llike - L_GAN, in non-saturating form
        with self.toggled_optimizer(opt_dec):
            x_tilde, x_p = Dec(torch.cat([z.detach(), z_p])).chunk(2)
            (_, logits_tilde, logits_p), l_llike = self.discriminate(Dis, x, x_tilde, x_p)
            loss_g = losses.nonsaturating_g(logits_tilde) + losses.nonsaturating_g(logits_p)
            self.minimize(self.cfg.gamma * l_llike + loss_g, opt_dec)

        # theta_Dis: L_GAN, with both reconstructions and samples as fakes
        with self.toggled_optimizer(opt_dis):
            logits, _ = self.discriminate(Dis, x, x_tilde.detach(), x_p.detach())
            real_logits, logits_tilde, logits_p = logits
            l_gan = losses.minimax_d(real_logits, logits_tilde) - losses.minimax_g(logits_p)
            self.minimize(l_gan, opt_dis)

        self.log_scalars(loss_prior=l_prior, loss_like=l_llike, loss_d=l_gan, loss_g=loss_g)
        self.log_discriminator(real_logits, torch.cat([logits_tilde, logits_p]))

    def discriminate(
        self, Dis: Any, x: Tensor, x_tilde: Tensor, x_p: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Compute logits and L_llike of images, reconstructions and samples.

        All three form one batch, so that batch norm normalizes them with the same statistics.
        With separate statistics, a reconstruction that is merely darker than its image would have
        nearly the same features.

        Args:
            Dis: The discriminator.
            x: Real images [B, C, H, W].
            x_tilde: Their reconstructions [B, C, H, W].
            x_p: Samples from the prior [B, C, H, W].

        Returns:
            The logits of x, x_tilde and x_p, [B] each, and L_llike, a scalar.
        """
        features = Dis.features(torch.cat([x, x_tilde, x_p]))
        dis_l, dis_l_tilde, _ = features.chunk(3)
        logits = Dis.compute_logits(features).chunk(3)
        return logits, self.negative_log_likelihood(dis_l, dis_l_tilde)

    def plain_step(self, x: Tensor) -> None:
        """Update encoder and decoder jointly: Kingma & Welling 2014, equation 10 with L = 1."""
        (opt,) = self.optimizer_list()
        with self.toggled_optimizer(opt):
            z, l_prior = self.encode(x)
            l_llike = self.negative_log_likelihood(x, self.generator(z))
            self.minimize(l_prior + l_llike, opt)
        self.log_scalars(loss_prior=l_prior, loss_like=l_llike)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sample latents z ~ q(z|x), [B, z_dim], by reparametrization, and compute L_prior."""
        mean, log_variance = self.encoder(x)
        noise = self.stream("posterior").normal(len(x), self.cfg.z_dim, like=x)
        z = mean + (0.5 * log_variance).exp() * noise
        return z, kl_from_standard_normal(mean, log_variance)

    def negative_log_likelihood(self, observed: Tensor, mean: Tensor) -> Tensor:
        """Compute -log N(observed; mean, variance) up to a constant.

        Summed over features or pixels, mean over the batch.
        """
        return half_squared_distance(observed, mean) / self.cfg.variance

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        mean, _ = self.encoder(batch.images)
        return {"generated": self.generate(batch, stream), "reconstructed": self.generator(mean)}

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        images = self.outputs(batch, stream)
        return [batch.images, images["reconstructed"], images["generated"]]


FAMILY = VAEGAN
