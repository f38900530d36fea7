"""Contrastive learning for unpaired image-to-image translation.

Park, Efros, Zhang, Zhu 2020. arXiv 2007.15651, equations 1 to 5: one direction, one generator, one
discriminator. In the feature space of the generator's encoder, each output patch must match the
source patch at the same position. The adversarial loss is least squares, as in section 4. FastCUT
is `model.nce_weight=10 model.identity_weight=0`.

Differs from the paper:
- Scores and sample grids use EMA weights.
- The loss is GAN + NCE_X + NCE_Y, as in equation 5; the authors' code halves the sum of the two
  contrastive losses (`model.nce_weight=0.5 model.identity_weight=0.5`). Weights are initialized by
  a normal distribution of standard deviation 0.02; the authors' code uses Xavier with gain 0.02.
- No jitter by default (`data.jitter`, `data.flip`), no flip-equivariance augmentation (FastCUT).
- The generator is CycleGAN's, with transposed convolutions; the authors' later code uses
  anti-aliased resampling.
- The learning rate decay is measured in images, as in `cyclegan`.
- `experiment=cut` is as wide and deep as a CPU allows.
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

    # channels of the outermost layers of both networks
    width: int = number(64, minimum=1)
    # residual blocks
    blocks: int = number(9, minimum=1)
    # strided layers of the discriminator; 3: 70 x 70 patches
    layers: int = number(3, minimum=1, maximum=8)
    norm: Literal["instance", "layer", "none"] = "instance"
    # patches sampled per layer for the contrastive loss
    patches: int = number(256, minimum=2)
    # dimension of the patch embeddings
    head_width: int = number(256, minimum=1)
    # equation 2: tau
    temperature: float = number(0.07, above=0)
    # equation 5: lambda_X, of PatchNCE on source images
    nce_weight: float = number(1.0, minimum=0)
    # equation 5: lambda_Y, of PatchNCE on target images (identity loss)
    identity_weight: float = number(1.0, minimum=0)
    lr_d: float = number(2e-4, above=0)
    lr_g: float = number(2e-4, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class CUT(Family):
    """Contrastive unpaired translation (Park et al. 2020, arXiv 2007.15651).

    Batches are unpaired (source, target) images, or the batches of two loaders.
    """

    Config = CUTConfig
    capturable = True
    image_to_image = True

    def build_networks(self, spec: ImageSpec, cfg: CUTConfig) -> None:
        if cfg.identity_weight and spec.source_channels != spec.channels:
            raise UserError(
                f"The identity loss needs sources and targets with equally many channels, not "
                f"{spec.source_channels} and {spec.channels}. Set model.identity_weight=0"
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

        # equation 1 over D, halved
        with self.toggled_optimizer(opt_d):
            real_logits, fake_logits = D(y), D(fake.detach())
            loss_d = losses.least_squares_d(real_logits, fake_logits)
            self.minimize(loss_d, opt_d)

        # equation 5 over G and H
        with self.toggled_optimizer(opt_g):
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
        """Compute the multilayer PatchNCE loss of equation 4.

        Args:
            source: Images whose patches are the keys, [B, C', H, W].
            image: Images whose patches are the queries, [B, C, H, W].
            purpose: Name of the random stream that samples the patch positions.

        Returns:
            The loss, a scalar.
        """
        source_features = self.generator.features(source)
        image_features = self.generator.features(image)
        # rank 0 of 1: the same positions for all images of the global batch
        stream = replace(self.stream(purpose), rank=0, world=1)
        positions = []
        for i, maps in enumerate(source_features):
            layer_stream = replace(stream, purpose=f"{purpose}/{i}")
            order = layer_stream.uniform(1, maps[0, 0].numel(), like=source)[0].argsort()
            positions.append(order[: self.cfg.patches])
        queries = self.heads(image_features, positions)
        keys = self.heads(source_features, positions)
        return losses.patch_nce(queries, keys, self.cfg.temperature)

    @property
    def adversarial_loss(self) -> str:
        return "least_squares"

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(batch.sources)

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        assert batch.sources is not None
        return [batch.sources, self.generate(batch, stream), batch.images]


FAMILY = CUT
