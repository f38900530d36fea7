"""Unpaired image-to-image translation using cycle-consistent adversarial networks.

Zhu, Park, Isola, Efros 2017. arXiv 1703.10593, equations 1 to 3, with the least-squares loss of section 4.

Differs from the paper:
- The identity loss of section 5.2, which the paper has for paintings to photographs alone, is on by default, as in the
  authors' later PyTorch code; `model.identity_weight=0`, which `cyclegan_256` has, is the objective of equation 3 and
  of their experiments on horses.
- `model.norm=layer`, which the short `cyclegan` has, puts layer norm for instance norm: it sees how bright an image is
  and of what colour, which instance norm has to guess.
- Scores and grids are made with averaged weights.
- No jitter by default; `data.jitter` enlarges images and crops them at random, bilinear, and `data.flip=true` mirrors
  half of them, as the experiment of 256 pixels does.
- The learning rate decays in images, from `decay_from` over `decay_images`, not in epochs.
- As wide and as deep as a CPU allows; `cyclegan_256` has the paper's sizes.
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

    width: int = number(64, minimum=1)  # channels of the outermost layers of all four networks
    blocks: int = number(9, minimum=0)  # residual blocks; the paper has 6 for 128 pixels, 9 for 256
    layers: int = number(
        3, minimum=1, maximum=8
    )  # strided layers of the discriminators; 3: patches of 70 x 70
    norm: Literal["instance", "layer", "none"] = "instance"
    cycle_weight: float = number(10.0, minimum=0)  # equation 3: lambda
    identity_weight: float = number(0.5, minimum=0)  # section 5.2, in units of the cycle weight
    pool_size: int = number(
        50, minimum=0
    )  # generated images that each discriminator is shown again; 0: none
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class CycleGAN(Family):
    """Unpaired image-to-image translation (Zhu et al. 2017, arXiv 1703.10593).

    Batches are (source, target) whose images need not correspond, or those of two loaders.
    """

    Config = CycleGANConfig
    ema_networks = ("generator", "generator_back")
    output_names = ("generated", "back", "cycled", "back_cycled")
    image_to_image = True

    def build_networks(self, spec: ImageSpec, cfg: CycleGANConfig) -> None:
        if spec.source_channels == 0:
            raise UserError(
                "cyclegan translates between two sets, but the data has one: choose data.name=horse2zebra"
            )
        if cfg.identity_weight and spec.source_channels != spec.channels:
            raise UserError(
                f"the identity loss compares inputs of {spec.source_channels} channels with images of {spec.channels}: "
                "set model.identity_weight=0"
            )
        ours, theirs = spec.shape, (spec.source_channels, *spec.shape[1:])
        sizes: dict[str, Any] = {"width": cfg.width, "norm": cfg.norm}
        self.generator = ResNetTranslator(
            shape=ours, source_channels=theirs[0], blocks=cfg.blocks, **sizes
        )
        self.generator_back = ResNetTranslator(
            shape=theirs, source_channels=ours[0], blocks=cfg.blocks, **sizes
        )
        self.discriminator = PatchDiscriminator(shape=ours, layers=cfg.layers, **sizes)
        self.discriminator_back = PatchDiscriminator(shape=theirs, layers=cfg.layers, **sizes)
        self.pool, self.pool_back = ImagePool(cfg.pool_size, ours), ImagePool(cfg.pool_size, theirs)

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
        G, F, D_Y, D_X = (
            self.generator,
            self.generator_back,
            self.discriminator,
            self.discriminator_back,
        )
        opt_d, opt_g = self.optimizer_list()

        with self.toggled_optimizer(opt_g):  # equation 3 over G and F
            fake_y, fake_x = G(x), F(y)
            loss_g = 2 * (losses.least_squares_g(D_Y(fake_y)) + losses.least_squares_g(D_X(fake_x)))
            loss_cycle = l1_loss(F(fake_y), x) + l1_loss(G(fake_x), y)  # equation 2
            total = loss_g + self.cfg.cycle_weight * loss_cycle
            if self.cfg.identity_weight:  # section 5.2
                loss_identity = l1_loss(G(y), y) + l1_loss(F(x), x)
                total = total + self.cfg.identity_weight * self.cfg.cycle_weight * loss_identity
                self.log_scalars(loss_identity=loss_identity)
            self.minimize(total, opt_g)

        with self.toggled_optimizer(
            opt_d
        ):  # equation 3 over D_X and D_Y, halved; fakes of a history (section 4)
            old_y = self.from_pool(self.pool, fake_y, "pool")
            old_x = self.from_pool(self.pool_back, fake_x, "pool back")
            logits_Y = D_Y(y), D_Y(old_y)
            logits_X = D_X(x), D_X(old_x)
            loss_d = losses.least_squares_d(*logits_Y) + losses.least_squares_d(*logits_X)
            self.minimize(loss_d, opt_d)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_cycle=loss_cycle)
        threshold = losses.LOSSES["least_squares"].threshold
        self.log_discriminator(*logits_Y, threshold)
        self.log_discriminator(*logits_X, threshold, "_back")

    def from_pool(self, pool: ImagePool, fakes: Tensor, purpose: str) -> Tensor:
        """Sample from the image pool. Fakes of all ranks are gathered first, so that every rank holds the same pool."""
        gathered = self.all_gather(fakes.detach())  # [B, ...], of several processes [world, B, ...]
        assert isinstance(gathered, Tensor)
        n, every = len(fakes), gathered.flatten(0, -4)
        draws = replace(self.stream(purpose), rank=self.part, world=self.parts).uniform(
            len(every), 2, like=pool.images
        )
        return pool(every, draws)[self.global_rank * n :][:n]

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
