"""The dense GAN of Keras-GAN's ``gan.py`` (Linder-Norén 2017), and the mistake of a known copy.

An iteration has two discriminator steps, on half a batch of real images and on as many generated
ones, and one generator step on a whole batch of latents. Adam has a learning rate of 2e-4 and a
beta1 of 0.5; the dense networks have the same widths and are those of family gan.

Differs from the program: Keras's Adam adds its epsilon, 1e-7, elsewhere; weights are initialized as
in PyTorch, not by Glorot's scheme.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam

from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lab.seeding import Stream


@dataclass(frozen=True)
class KerasProgramConfig(ModelConfig):
    """The keys under ``model:``."""

    # Epsilon of batch norm, Keras's default. The copy has 0.8, its momentum in Keras.
    eps: float = number(1e-3, above=0)


class KerasProgram(Family):
    """The family; see the module docstring."""

    Config = KerasProgramConfig

    def build_networks(self, spec: ImageSpec, cfg: KerasProgramConfig) -> None:
        """Build both networks."""
        self.generator = MLPGenerator(z_dim=100, shape=spec.shape, eps=cfg.eps)
        self.discriminator = MLPDiscriminator(shape=spec.shape)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for each network."""
        return [
            Adam(net.parameters(), 2e-4, (0.5, 0.999))
            for net in (self.discriminator, self.generator)
        ]

    def step(self, batch: Batch) -> None:
        """Run one iteration of the program's loop."""
        x = batch.images[: len(batch.images) // 2]
        G, D = self.generator, self.discriminator
        opt_d, opt_g = self.optimizer_list()
        with torch.no_grad():
            fake = G(G.sample_latents(self.stream("latent d"), len(x), like=x))
        logits: list[Tensor] = []
        losses: list[Tensor] = []
        # The program calls train_on_batch twice.
        for images, target in ((x, 1.0), (fake, 0.0)):
            with self.toggled_optimizer(opt_d):
                logits.append(D(images))
                losses.append(_cross_entropy(logits[-1], target))
                self.minimize(losses[-1], opt_d)
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(batch.images), like=x)
            loss_g = _cross_entropy(D(G(z)), 1.0)
            self.minimize(loss_g, opt_g)
        self.log_scalars(loss_d=0.5 * (losses[0] + losses[1]), loss_g=loss_g)
        self.log_discriminator(logits[0], logits[1])

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        """Generate a sample for each image of the batch."""
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


FAMILY = KerasProgram
