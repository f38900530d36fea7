"""Unpaired image-to-image translation using cycle-consistent adversarial networks.

Zhu, Park, Isola, Efros 2017. arXiv 1703.10593, equations 1 to 3, with the least-squares loss of
section 4.

Differs from the paper:
- The identity loss of section 5.2 is on by default, as in the authors' later PyTorch code; the
  paper uses it only for paintings to photographs. `model.identity_weight=0`, as in `cyclegan_256`,
  gives the objective of equation 3, which the paper uses for horses and zebras.
- The short experiment `cyclegan` sets `model.norm=layer`: layer norm instead of instance norm. It
  preserves brightness and color, which instance norm removes.
- Scores and sample grids use EMA weights.
- No jitter by default. `data.jitter` resizes (bilinear) and crops at random, and `data.flip=true`
  flips horizontally, as `cyclegan_256` does.
- The learning rate decay is measured in images (`decay_from`, `decay_images`), not in epochs.
- `cyclegan` is as wide and deep as a CPU allows; `cyclegan_256` has the paper's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.image_pool import ImagePool
from gan_lab.networks.patchgan import PatchDiscriminator
from gan_lab.networks.resnet_translator import ResNetTranslator
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class CycleGANConfig(ModelConfig):
    """The keys under ``model:``."""

    # channels of the outermost layers of all four networks
    width: int = number(64, minimum=1)
    # residual blocks; the paper has 6 for 128 pixels, 9 for 256
    blocks: int = number(9, minimum=0)
    # strided layers of the discriminators; 3: 70 x 70 patches
    layers: int = number(3, minimum=1, maximum=8)
    norm: Literal["instance", "layer", "none"] = "instance"
    # equation 3: lambda
    cycle_weight: float = number(10.0, minimum=0)
    # weight of the identity loss (section 5.2), relative to cycle_weight
    identity_weight: float = number(0.5, minimum=0)
    # size of each discriminator's buffer of past fakes; 0: no buffer
    pool_size: int = number(50, minimum=0)
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class CycleGAN(Family):
    """Unpaired image-to-image translation (Zhu et al. 2017, arXiv 1703.10593).

    Batches are unpaired (source, target) images, or the batches of two loaders.
    """

    Config = CycleGANConfig
    capturable = True
    ema_networks = ("generator", "generator_back")
    output_names = ("generated", "back", "cycled", "back_cycled")
    reconstructed_sets = (2, 5)
    image_to_image = True

    def build_networks(self, spec: ImageSpec, cfg: CycleGANConfig) -> None:
        if cfg.identity_weight and spec.source_channels != spec.channels:
            raise UserError(
                f"The identity loss needs sources and targets with equally many channels, not "
                f"{spec.source_channels} and {spec.channels}. Set model.identity_weight=0"
            )
        shape_x, shape_y = (spec.source_channels, *spec.shape[1:]), spec.shape
        sizes: dict[str, Any] = {"width": cfg.width, "norm": cfg.norm}
        # X to Y, and back
        self.generator = ResNetTranslator(
            shape=shape_y, source_channels=shape_x[0], blocks=cfg.blocks, **sizes
        )
        self.generator_back = ResNetTranslator(
            shape=shape_x, source_channels=shape_y[0], blocks=cfg.blocks, **sizes
        )
        self.discriminator = PatchDiscriminator(shape=shape_y, layers=cfg.layers, **sizes)
        self.discriminator_back = PatchDiscriminator(shape=shape_x, layers=cfg.layers, **sizes)
        self.pool = ImagePool(cfg.pool_size, shape_y)
        self.pool_back = ImagePool(cfg.pool_size, shape_x)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        discriminators = [*self.discriminator.parameters(), *self.discriminator_back.parameters()]
        generators = [*self.generator.parameters(), *self.generator_back.parameters()]
        return [
            Adam(discriminators, self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(generators, self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x, y = batch.sources, batch.images
        assert x is not None
        G, F = self.generator, self.generator_back
        D_Y, D_X = self.discriminator, self.discriminator_back
        opt_d, opt_g = self.optimizer_list()

        # equation 3 over G and F
        with self.toggled_optimizer(opt_g):
            fake_y, fake_x = G(x), F(y)
            # twice: least_squares_g has a factor of 1/2, equation 3 has none
            loss_g = 2 * (losses.least_squares_g(D_Y(fake_y)) + losses.least_squares_g(D_X(fake_x)))
            # equation 2
            loss_cycle = l1_loss(F(fake_y), x) + l1_loss(G(fake_x), y)
            total = loss_g + self.cfg.cycle_weight * loss_cycle
            # section 5.2
            if self.cfg.identity_weight:
                loss_identity = l1_loss(G(y), y) + l1_loss(F(x), x)
                total = total + self.cfg.identity_weight * self.cfg.cycle_weight * loss_identity
                self.log_scalars(loss_identity=loss_identity)
            self.minimize(total, opt_g)

        # equation 3 over D_X and D_Y, halved, with fakes from a history buffer (section 4)
        with self.toggled_optimizer(opt_d):
            past_y = self.sample_pool(self.pool, fake_y, "pool")
            past_x = self.sample_pool(self.pool_back, fake_x, "pool back")
            logits_Y = D_Y(y), D_Y(past_y)
            logits_X = D_X(x), D_X(past_x)
            loss_d = losses.least_squares_d(*logits_Y) + losses.least_squares_d(*logits_X)
            self.minimize(loss_d, opt_d)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_cycle=loss_cycle)
        threshold = losses.LOSSES["least_squares"].threshold
        self.log_discriminator(*logits_Y, threshold)
        self.log_discriminator(*logits_X, threshold, "_back")

    def sample_pool(self, pool: ImagePool, fakes: Tensor, purpose: str) -> Tensor:
        """Exchange fakes with the image pool, which is identical on all ranks.

        Args:
            pool: The history buffer.
            fakes: Fakes of this rank, [B, C, H, W].
            purpose: Name of the random stream.

        Returns:
            New or past fakes, [B, C, H, W].
        """
        # every rank inserts the fakes of all ranks, so that their pools stay identical;
        # all_gather adds a leading dimension only if there is more than one rank
        gathered = self.all_gather(fakes.detach())
        assert isinstance(gathered, Tensor)
        all_fakes = gathered.flatten(0, -4)
        stream = replace(self.stream(purpose), rank=self.part, world=self.parts)
        draws = stream.uniform(len(all_fakes), 2, like=pool.images)
        first = self.global_rank * len(fakes)
        return pool(all_fakes, draws)[first : first + len(fakes)]

    @property
    def adversarial_loss(self) -> str:
        return "least_squares"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(batch.sources)

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        fake_y, fake_x = self.generator(batch.sources), self.generator_back(batch.images)
        cycled, back_cycled = self.generator_back(fake_y), self.generator(fake_x)
        return {"generated": fake_y, "back": fake_x, "cycled": cycled, "back_cycled": back_cycled}

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        assert batch.sources is not None
        images = self.outputs(batch, stream)
        return [
            batch.sources,
            images["generated"],
            images["cycled"],
            batch.images,
            images["back"],
            images["back_cycled"],
        ]


FAMILY = CycleGAN
