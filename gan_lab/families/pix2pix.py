"""Image-to-image translation with conditional adversarial networks.

Isola, Zhu, Zhou, Efros 2017. arXiv 1611.07004, equations 1, 3 and 4.

Differs from the paper:
- Images are generated in eval mode: without dropout, with the running statistics of batch norm, and
  with EMA weights. The paper keeps dropout on and normalizes with the statistics of the test batch.
  Its section 3.2 observes that the noise has little effect; here the output is deterministic.
- Both steps of an iteration use the same dropout sample.
- No jitter by default. `data.jitter` resizes (bilinear) and crops at random, and `data.flip=true`
  flips horizontally, as `pix2pix_256` does.
- Experiments are as deep and wide as image size and CPU allow; `pix2pix_256` has the paper's sizes.
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

    # channels of the outermost layers of both networks
    width: int = number(64, minimum=1)
    # downsampling layers of the U-Net; 0: as many as the image size allows
    depth: int = number(0, minimum=0)
    # strided layers of the discriminator; 3: 70 x 70 patches
    layers: int = number(3, minimum=1, maximum=8)
    norm: Literal["batch", "instance", "none"] = "batch"
    # learn a scale and a shift in instance norm, as in batch norm
    affine: bool = True
    # dropout probability in the three innermost upsampling layers
    dropout: float = number(0.5, minimum=0, below=1)
    # image: the network predicts the image; residual: its difference from the input, for
    # super-resolution and denoising; fill: the hole of data.degradation=mask, and the other pixels
    # are those of the input
    output: Literal["image", "residual", "fill"] = "image"
    # equation 4: lambda
    l1_weight: float = number(100.0, minimum=0)
    # weight of the adversarial loss in the generator's step; 0: L1 only, as in section 4.2
    gan_weight: float = number(1.0, minimum=0)
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class Pix2Pix(Family):
    """Paired image-to-image translation (Isola et al. 2017, arXiv 1611.07004).

    Batches are (source, target) pairs.
    """

    Config = Pix2PixConfig
    capturable = True
    image_to_image = True
    paired = True
    set_names = ("input", "output", "truth")

    def build_networks(self, spec: ImageSpec, cfg: Pix2PixConfig) -> None:
        if spec.source_channels == 0 or spec.pairs != "all":
            missing = "source images" if spec.source_channels == 0 else "training pairs"
            raise UserError(
                f"pix2pix trains on (source, target) pairs, but the data has no {missing}. "
                "Choose data.name=pairs, data.degradation=gray or, for unpaired images, "
                "family=cyclegan"
            )
        C = spec.source_channels
        norms: dict[str, Any] = {"norm": cfg.norm, "affine": cfg.affine}
        self.generator = UNet(
            shape=spec.shape,
            source_channels=C,
            width=cfg.width,
            depth=cfg.depth,
            dropout=cfg.dropout,
            output=cfg.output,
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
        # G(x, z), where the noise z is the dropout
        fake = G(x)

        # equation 1, max over D; halved to slow down D relative to G (section 3.3)
        with self.toggled_optimizer(opt_d):
            real_logits, fake_logits = D(y, x), D(fake.detach(), x)
            loss_d = 0.5 * losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)

        # equation 4, min over G, with -log D instead of log(1 - D) (section 3.3)
        with self.toggled_optimizer(opt_g):
            loss_g = losses.nonsaturating_g(D(fake, x))
            # equation 3
            loss_l1 = l1_loss(fake, y)
            self.minimize(self.cfg.gan_weight * loss_g + self.cfg.l1_weight * loss_l1, opt_g)

        self.log_scalars(loss_d=loss_d, loss_g=loss_g, loss_l1=loss_l1)
        self.log_discriminator(real_logits, fake_logits)

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(batch.sources)

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        assert batch.sources is not None
        return [batch.source_images, self.generate(batch, stream), batch.images]


FAMILY = Pix2Pix
