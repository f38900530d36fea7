"""Contrastive learning for unpaired image-to-image translation.

Park, Efros, Zhang, Zhu 2020. arXiv 2007.15651, equations 1 to 5: one direction, one generator, one discriminator. A patch of
the image must be recognised, by the generator's own encoder, as that of the same place of the source. The adversarial
loss is least squares, as in section 4. FastCUT is `model.nce_weight=10 model.identity_weight=0`.

Differs from the paper:
- Scores and grids are made with averaged weights.
- No jitter by default (`data.jitter`, `data.flip`); FastCUT's mirrored patches are not there.
- The generator is CycleGAN's (transposed convolutions), where the authors' later code resamples without aliasing.
- The learning rate decays in images, as `cyclegan` has it.
- As wide and as deep as a CPU allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.patch_heads import PatchHeads
from gan_lab.networks.patchgan import PatchDiscriminator
from gan_lab.networks.resnet_translator import ResNetTranslator
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class CUTConfig(ModelConfig):
    """The keys under ``model:``."""

    width: int = number(64, minimum=1)  # channels of the outermost layers of both networks
    blocks: int = number(9, minimum=1)  # residual blocks
    layers: int = number(
        3, minimum=1, maximum=8
    )  # strided layers of the discriminator; 3: patches of 70 x 70
    norm: Literal["instance", "layer", "none"] = "instance"
    patches: int = number(256, minimum=2)  # patches per layer, which are contrasted with each other
    head_width: int = number(256, minimum=1)  # length of the vectors that are compared
    temperature: float = number(0.07, above=0)  # equation 2: tau
    nce_weight: float = number(1.0, minimum=0)  # equation 5: lambda_X, of the sources
    identity_weight: float = number(
        1.0, minimum=0
    )  # equation 5: lambda_Y, of images that are translated already
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class CUT(Family):
    """Contrastive unpaired translation (Park et al. 2020, arXiv 2007.15651).

    Batches are (source, target) whose images need not correspond, or those of two loaders.
    """

    Config = CUTConfig
    image_to_image = True

    def build_networks(self, spec: ImageSpec, cfg: CUTConfig) -> None:
        if spec.source_channels == 0:
            raise UserError(
                "cut translates one set into another, but the data has one: choose data.name=horse2zebra"
            )
        if cfg.identity_weight and spec.source_channels != spec.channels:
            raise UserError(
                f"images of {spec.channels} channels are no input where inputs have {spec.source_channels}: set "
                "model.identity_weight=0"
            )
        sizes: dict[str, Any] = {"width": cfg.width, "norm": cfg.norm}
        self.generator: ResNetTranslator = ResNetTranslator(
            shape=spec.shape, source_channels=spec.source_channels, blocks=cfg.blocks, **sizes
        )
        self.discriminator = PatchDiscriminator(shape=spec.shape, layers=cfg.layers, **sizes)
        self.heads = PatchHeads(self.generator.feature_channels, cfg.head_width)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        generator = [*self.generator.parameters(), *self.heads.parameters()]
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(generator, self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x, y = batch.sources, batch.images
        assert x is not None
        G, D, cfg = self.generator, self.discriminator, self.cfg
        opt_d, opt_g = self.optimizer_list()
        fake = G(x)

        with self.toggled_optimizer(opt_d):  # equation 1 over D, halved
            real_logits, fake_logits = D(y), D(fake.detach())
            loss_d = losses.least_squares_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)

        with self.toggled_optimizer(opt_g):  # equation 5 over G and H
            loss_g = 2 * losses.least_squares_g(D(fake))
            loss_nce = self.patch_nce(x, fake, "patches")
            total = loss_g + cfg.nce_weight * loss_nce
            if cfg.identity_weight:
                loss_identity = self.patch_nce(y, G(y), "patches of identity")
                total = total + cfg.identity_weight * loss_identity
                self.log_scalars(loss_identity=loss_identity)
            self.minimize(total, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_nce=loss_nce)
        self.log_discriminator(real_logits, fake_logits, losses.LOSSES["least_squares"].threshold)

    def patch_nce(self, source: Tensor, image: Tensor, purpose: str) -> Tensor:
        """Equation 4: patches of the image among those of the source, at places that all images of the batch share."""
        there, here = self.generator.features(source), self.generator.features(image)
        stream = replace(self.stream(purpose), rank=0, world=1)
        places = []
        for i, maps in enumerate(there):
            drawn = replace(stream, purpose=f"{purpose}/{i}").uniform(
                1, maps[0, 0].numel(), like=source
            )
            places.append(drawn[0].argsort()[: self.cfg.patches])
        return losses.patch_nce(
            self.heads(here, places), self.heads(there, places), self.cfg.temperature
        )

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(batch.sources)

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        assert batch.sources is not None
        return [batch.sources, self.generate(batch, stream), batch.images]


FAMILY = CUT
