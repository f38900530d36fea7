"""StyleGAN2-ADA: modulated convolutions, path length regularization, adaptive augmentation.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila 2020, arXiv 1912.04958, sections 2 to 4 and
appendix B. Karras, Aittala, Hellsten, Laine, Lehtinen, Aila 2020, arXiv 2006.06676, appendix C.
Implemented from the papers; the networks reproduce outputs of the authors' networks
(`tests/unit/test_stylegan.py`).

Differs from the papers and the authors' code:
- Image sizes that are no powers of two start at 5 to 7 pixels, such as 7 x 7 for 28 x 28.
- The discriminator is updated before the generator; a penalty is a step of its own before the step
  of the loss.
- `w_avg` follows the batches of the generator's steps alone. The crossover of style mixing is one
  per global batch.
- Groups of the minibatch standard deviation are those of a process or micro-batch. If `group` does
  not divide the batch, they are the largest that do.
- Fakes get the labels of the real minibatch, so classes follow the data distribution.
- Scores and sample grids use the constant noise of the EMA weights, as a loaded generator does, and
  clamp images to [-1, 1].
- ADA (`augment.policy=ada`) lacks some transformations: see `gan_lab/augmentation.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from gan_lab import losses, penalties
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.stylegan import StyleGANDiscriminator, StyleGANGenerator
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

# gamma of R1 is this times the pixels of an image, divided by the batch size (arXiv 2006.06676,
# appendix C)
GAMMA_PER_PIXEL = 2e-4
# weight of a new mean path length in the running mean
PATH_MEAN_STEP = 0.01


@dataclass(frozen=True)
class StyleGAN2Config(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(512, minimum=1)
    # numbers in the style vector w
    w_dim: int = number(512, minimum=1)
    # dense layers from z to w; the 2018 paper has 8
    mapping_layers: int = number(2, minimum=1)
    # channels at the highest resolution; each halving doubles them
    width: int = number(64, minimum=1)
    # maximum number of channels
    max_width: int = number(512, minimum=1)
    # of the discriminator: residual blocks, or the plain ones of the authors' CIFAR-10 setting
    architecture: Literal["resnet", "orig"] = "resnet"
    # images per group of the minibatch standard deviation; 1: none
    group: int = number(4, minimum=1)
    # maximum absolute activation; 0: no limit
    clamp: float = number(256.0, minimum=0)
    lr_d: float = number(2.5e-3, above=0)
    lr_g: float = number(2.5e-3, above=0)
    betas: tuple[float, float] = number((0.0, 0.99), minimum=0, below=1)
    # weight of the R1 penalty: gamma/2 * E[|grad D(x)|^2]; null: 0.0002 * height * width /
    # batch size
    gamma: float | None = number(None, minimum=0)
    # lazy regularization: apply R1 every k iterations with k times the weight
    r1_every: int = number(16, minimum=1)
    # weight of the path length penalty; 0: none
    path_weight: float = number(2.0, minimum=0)
    # lazy regularization: apply the path length penalty every k iterations with k times the weight
    path_every: int = number(4, minimum=1)
    # probability that the images of an iteration mix the styles of two latents
    mixing: float = number(0.9, minimum=0, maximum=1)


class StyleGAN2(Family):
    """StyleGAN2-ADA (Karras et al. 2020, arXiv 1912.04958 and 2006.06676).

    ``augment=ada`` adds adaptive discriminator augmentation.
    """

    Config = StyleGAN2Config
    # running mean of path lengths, a
    path_mean: Tensor
    generator: StyleGANGenerator

    def build_networks(self, spec: ImageSpec, cfg: StyleGAN2Config) -> None:
        self.conditional = spec.classes > 0
        self.generator = StyleGANGenerator(
            z_dim=cfg.z_dim,
            shape=spec.shape,
            classes=spec.classes,
            w_dim=cfg.w_dim,
            width=cfg.width,
            max_width=cfg.max_width,
            mapping_layers=cfg.mapping_layers,
            clamp=cfg.clamp,
        )
        self.discriminator = StyleGANDiscriminator(
            shape=spec.shape,
            classes=spec.classes,
            width=cfg.width,
            max_width=cfg.max_width,
            clamp=cfg.clamp,
            group=cfg.group,
            architecture=cfg.architecture,
        )
        self.register_buffer("path_mean", torch.zeros(()))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        cfg = self.cfg
        r1_every = None if cfg.gamma == 0 else cfg.r1_every
        path_every = cfg.path_every if cfg.path_weight else None
        return [
            make_lazy_adam(self.discriminator.parameters(), cfg.lr_d, cfg.betas, r1_every),
            make_lazy_adam(self.generator.parameters(), cfg.lr_g, cfg.betas, path_every),
        ]

    def step(self, batch: Batch) -> None:
        x, y = batch.images, batch.labels
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g = self.optimizer_list()

        with self.toggled_optimizer(opt_d):
            gamma = penalties.lazy_weight(self._get_gamma(x), self.cfg.r1_every, self.iteration)
            if gamma:
                # D.forward is the eager network: torch.compile does not support double backward
                r1 = penalties.zero_centered_penalty(lambda x: D.forward(x, y), x)
                self.minimize(0.5 * gamma * r1, opt_d)
                self.log_scalars(r1=r1)
            with torch.no_grad():
                ws = self._sample_ws("d", y, like=x)
                fake = G.synthesis(ws, self._sample_noise("d", like=x))
            real_logits, fake_logits = D(x, y), D(fake, y)
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)
        self.log_scalars(loss_d=loss_d)
        self.log_discriminator(real_logits, fake_logits)

        with self.toggled_optimizer(opt_g):
            weight = penalties.lazy_weight(
                self.cfg.path_weight, self.cfg.path_every, self.iteration
            )
            if weight:
                self.minimize(weight * self._penalize_path_lengths(x, y), opt_g)
            ws = self._sample_ws("g", y, like=x, average=True)
            fake = G.synthesis(ws, self._sample_noise("g", like=x))
            loss_g = losses.nonsaturating_g(D(fake, y))
            self.minimize(loss_g, opt_g)
        self.log_scalars(loss_g=loss_g)

    def _get_gamma(self, x: Tensor) -> float:
        """Return the weight of R1, by default that of the authors' "auto" settings."""
        if self.cfg.gamma is not None:
            return float(self.cfg.gamma)
        _, processes = self.shares[self.part]
        return GAMMA_PER_PIXEL * x.shape[2] * x.shape[3] / (len(x) * processes)

    def _sample_ws(
        self, purpose: str, y: Tensor | None, like: Tensor, average: bool = False
    ) -> Tensor:
        """Sample one w per layer and image of ``like``, [B, num_ws, w_dim], with style mixing.

        Args:
            purpose: Distinguishes the draws of an iteration.
            y: Labels [B].
            like: Images [B, C, H, W].
            average: Update ``w_avg`` by the mean of these w, before mixing.

        Source: Karras et al. 2019 (arXiv 1812.04948), section 3.1.
        """
        G = self.generator
        z = G.sample_latents(self.stream(f"latent {purpose}"), len(like), like=like)
        w = G.map_latents(z, y)
        if average:
            G.update_w_avg(self.mean_over_ranks(w.mean(dim=0)))
        ws = G.repeat_w(w)
        # one crossover for the images of all ranks and micro-batches
        stream = replace(self.stream(f"mixing {purpose}"), rank=0, world=1)
        mixes, position = stream.uniform(2, like=torch.empty(0)).tolist()
        if mixes >= self.cfg.mixing:
            return ws
        crossover = 1 + int(position * (G.num_ws - 1))
        z = G.sample_latents(self.stream(f"mixed latent {purpose}"), len(like), like=like)
        other = G.repeat_w(G.map_latents(z, y))
        return torch.cat([ws[:, :crossover], other[:, crossover:]], dim=1)

    def _sample_noise(self, purpose: str, like: Tensor) -> list[Tensor]:
        return self.generator.sample_noise(self.stream(f"noise {purpose}"), len(like), like=like)

    def _penalize_path_lengths(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Compute E[(length - a)²] on half the batch, and update the running mean a.

        The gradient also flows through a, the new running mean.

        Raises:
            UserError: Half of the batch is not the same images for one process and for several.

        Source: Karras et al. 2020 (arXiv 1912.04958), section 3.2, equation 4, and appendix B.
        """
        if self.in_lab_loop and len(x) % 2 and self.shares[self.part][1] > 1:
            raise UserError(
                f"model.path_weight={self.cfg.path_weight} uses half of the images, but each "
                f"process or micro-batch has {len(x)}. Use an even number, or model.path_weight=0"
            )
        G = self.generator
        # every second image: ranks and micro-batches together take the same ones as one process
        x, y = x[::2], None if y is None else y[::2]
        # second derivatives in float32 at any precision
        with torch.autocast(x.device.type, enabled=False):
            ws, noise = self._sample_ws("path", y, like=x), self._sample_noise("path", like=x)
            direction = self.stream("path direction").normal(*x.shape, like=x)
            lengths = penalties.path_lengths(lambda ws: G.synthesis(ws, noise), ws, direction)
        mean = self.mean_over_ranks(lengths.mean())
        a = torch.lerp(self.path_mean, mean, PATH_MEAN_STEP)
        self.path_mean.copy_(a)
        penalty = (lengths - a).square().mean()
        # d penalty / d a = -2 (mean - a) over the global batch, and a moves by PATH_MEAN_STEP with
        # the mean. Written out, since autograd would use the mean of this process alone
        through_a = -2 * (mean - a) * PATH_MEAN_STEP * lengths.mean()
        self.log_scalars(path_length=lengths.mean(), path_penalty=penalty)
        return penalty + through_a - through_a.detach()

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        z = self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        images: Tensor = self.generator(z, batch.labels)
        return images.clamp(-1, 1)


def make_lazy_adam(
    weights: Iterable[nn.Parameter],
    lr: float,
    betas: tuple[float, float],
    every: int | None,
) -> Adam:
    """Build Adam for k + 1 steps per k iterations: one of the loss in each, one of the penalty.

    Args:
        weights: The weights.
        lr: Learning rate.
        betas: Adam's betas.
        every: k; None: no penalty.

    Source: Karras et al. 2020 (arXiv 1912.04958), appendix B, "Lazy regularization".
    """
    share = 1.0 if every is None else every / (every + 1)
    return Adam(weights, lr * share, (betas[0] ** share, betas[1] ** share), eps=1e-8, fused=True)


FAMILY = StyleGAN2
