"""Image-to-image translation with conditional adversarial networks.

Isola, Zhu, Zhou, Efros 2017. arXiv 1611.07004, equations 1, 3 and 4.

Differs from the paper:
- Images are generated in evaluation mode: without dropout, with the running statistics of batch norm, and with averaged
  weights. The paper leaves dropout on and normalises by the statistics of the one image; then the noise is barely
  seen, as its section 3.2 says, and here the same input gives the same image.
- One draw of the dropout serves both steps of an iteration.
- No jitter by default; `data.jitter` enlarges images and crops them at random, bilinear, and `data.flip=true` mirrors
  half of them, as the experiment of 256 pixels does.
- As deep and as wide as the size and a CPU allow; `pix2pix_256` has the paper's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.patchgan import PatchDiscriminator
from gan_lab.networks.unet import UNet
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class Pix2PixConfig(ModelConfig):
    """The keys under ``model:``."""

    width: int = number(64, minimum=1)  # channels of the outermost layers of both networks
    depth: int = number(0, minimum=0)  # halvings of the U-Net; 0: as many as the size allows
    layers: int = number(
        3, minimum=1, maximum=8
    )  # strided layers of the discriminator; 3: patches of 70 x 70
    norm: Literal["batch", "instance", "none"] = "batch"
    affine: bool = True  # instance norm learns a scale and a shift, as batch norm does
    dropout: float = number(0.5, minimum=0, below=1)
    l1_weight: float = number(100.0, minimum=0)  # equation 4: lambda
    gan_weight: float = number(
        1.0, minimum=0
    )  # of equation 1 in G's step; 0: L1 alone, as in section 4.2
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class Pix2Pix(Family):
    """Paired image-to-image translation (Isola et al. 2017, arXiv 1611.07004). Batches are (source, target)."""

    Config = Pix2PixConfig
    image_to_image = True
    paired = True

    def build_networks(self, spec: ImageSpec, cfg: Pix2PixConfig) -> None:
        if spec.source_channels == 0 or spec.pairs != "all":
            has = "no inputs" if spec.source_channels == 0 else "no pairs to train on"
            raise UserError(
                f"pix2pix translates an input into its counterpart, but the data has {has}: "
                "choose data.name=pairs, data.gray_input=true or, for unpaired images, family=cyclegan"
            )
        C = spec.source_channels
        norms: dict[str, Any] = {"norm": cfg.norm, "affine": cfg.affine}
        self.generator = UNet(
            shape=spec.shape,
            source_channels=C,
            width=cfg.width,
            depth=cfg.depth,
            dropout=cfg.dropout,
            **norms,
        )
        self.discriminator = PatchDiscriminator(
            shape=spec.shape, source_channels=C, width=cfg.width, layers=cfg.layers, **norms
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            Adam(self.discriminator.parameters(), self.cfg.lr_d, self.cfg.betas, fused=True),
            Adam(self.generator.parameters(), self.cfg.lr_g, self.cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        x, y = batch.sources, batch.images
        G, D = self.generator, self.discriminator
        opt_d, opt_g = self.optimizer_list()
        fake = G(x)  # G(x, z): z is the dropout

        with self.toggled_optimizer(
            opt_d
        ):  # equation 1, max over D; halved "to slow down D" (section 3.3)
            real_logits, fake_logits = D(y, x), D(fake.detach(), x)
            loss_d = 0.5 * losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)

        with self.toggled_optimizer(
            opt_g
        ):  # equation 4: arg min over G, with log D instead of -log(1 - D) (section 3.3)
            loss_g = losses.nonsaturating_g(D(fake, x))
            loss_l1 = l1_loss(fake, y)  # equation 3
            self.minimize(self.cfg.gan_weight * loss_g + self.cfg.l1_weight * loss_l1, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_l1=loss_l1)
        self.log_discriminator(real_logits, fake_logits)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(batch.sources)

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        assert batch.sources is not None
        return [batch.sources, self.generate(batch, stream), batch.images]


FAMILY = Pix2Pix
