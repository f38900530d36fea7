"""Semi-supervised learning with a generative adversarial network whose discriminator is the classifier.

Odena 2016. arXiv 1606.01583, Algorithm 1: the discriminator tells K classes and fakes apart. Salimans, Goodfellow,
Zaremba, Cheung, Radford, Chen 2016. arXiv 1606.03498, section 5: K logits are enough, the fakes' is fixed at 0; and
section 3.1, feature matching: what the generator minimises.

Differs from the papers:
- Odena's generator minimises the class loss of its fakes, here it matches features, as Salimans et al. do.
- A small convolutional network without weight norm and dropout; noise is added to the discriminator's input alone.
- The generator matches the features of the unlabelled minibatch of the discriminator's step, not of another one.
- The classifier is read with averaged weights.
- A third network, `baseline`, of the discriminator's architecture learns from the labelled images alone: in the same
  steps, from the same rows with noise of the same strength, with an optimizer of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import Adam

from gan_lab import losses
from gan_lab.config.schema import ModelConfig, number
from gan_lab.families.base import Family
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.classifier import Classifier
from gan_lab.networks.dcgan import DCGANGenerator
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class SGANConfig(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(64, minimum=1)
    width: int = number(32, minimum=1)  # channels of the outermost layers of each network
    norm: Literal["batch", "none"] = "batch"  # of the generator
    noise: float = number(0.4, minimum=0)  # standard deviation, on images in [-1, 1]
    unsupervised_weight: float = number(1.0, minimum=0)
    lr_d: float = number(2e-3, above=0)  # of the baseline too
    lr_g: float = number(2e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class SGAN(Family):
    """Semi-supervised GAN (Odena 2016, arXiv 1606.01583, with feature matching of Salimans et al. 2016).

    Batches are (image, label); label -1 is an image without a label.
    """

    Config = SGANConfig
    ema_networks = ("generator", "discriminator", "baseline")
    output_names = ("generated", "logits", "baseline_logits")
    semi_supervised = True
    discriminator: Classifier

    def build_networks(self, spec: ImageSpec, cfg: SGANConfig) -> None:
        if spec.classes == 0:
            raise UserError(
                "sgan learns classes from labels, but the data has 0: choose labeled data or family=gan, or pass num_classes"
            )
        self.generator = DCGANGenerator(
            z_dim=cfg.z_dim, shape=spec.shape, width=cfg.width, norm=cfg.norm
        )
        self.discriminator = Classifier(shape=spec.shape, classes=spec.classes, width=cfg.width)
        self.baseline = Classifier(shape=spec.shape, classes=spec.classes, width=cfg.width)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        cfg = self.cfg
        return [
            Adam(self.discriminator.parameters(), cfg.lr_d, cfg.betas, fused=True),
            Adam(self.generator.parameters(), cfg.lr_g, cfg.betas, fused=True),
            Adam(self.baseline.parameters(), cfg.lr_d, cfg.betas, fused=True),
        ]

    def step(self, batch: Batch) -> None:
        G, D = self.generator, self.augmented(self.discriminator)
        opt_d, opt_g, opt_baseline = self.optimizer_list()
        x_l, y_l, x_u = split_labelled(batch)

        with self.toggled_optimizer(opt_d):  # section 5: L_supervised + L_unsupervised
            z = G.sample_latents(self.stream("latent d"), len(x_u), like=x_u)
            with torch.no_grad():
                fake = G(z)
            loss_class = cross_entropy(
                self.discriminator(self.add_instance_noise(x_l, "labelled")), y_l
            )
            real_logits = real_logit(D(self.add_instance_noise(x_u, "real d")))
            fake_logits = real_logit(D(self.add_instance_noise(fake, "fake d")))
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_class + self.cfg.unsupervised_weight * loss_d, opt_d)

        with self.toggled_optimizer(opt_g):  # section 3.1: || E f(x) - E f(G(z)) ||^2
            z = G.sample_latents(self.stream("latent g"), len(x_u), like=x_u)
            fake = G(z)
            real_features = D.features(self.add_instance_noise(x_u, "real g"))
            fake_features = D.features(self.add_instance_noise(fake, "fake g"))
            loss_g = mse_loss(self.global_mean(fake_features), self.global_mean(real_features))
            self.minimize(loss_g, opt_g)

        with self.toggled_optimizer(
            opt_baseline
        ):  # the yardstick: the labelled images and nothing else
            loss_baseline = cross_entropy(
                self.baseline(self.add_instance_noise(x_l, "baseline")), y_l
            )
            self.minimize(loss_baseline, opt_baseline)

        self.log_scalars(
            loss_class=loss_class, loss_d=loss_d, loss_g=loss_g, loss_baseline=loss_baseline
        )
        self.log_discriminator(real_logits, fake_logits)

    def add_instance_noise(self, images: Tensor, purpose: str) -> Tensor:
        """Add normal noise to the images, as the classifiers see them in training."""
        noise = self.stream(f"noise {purpose}").normal(len(images), *self.spec.shape, like=images)
        return images + self.cfg.noise * noise

    def global_mean(self, features: Tensor) -> Tensor:
        """The mean over the batch of all processes and parts, [F], of this one's features [B, F], with gradients.

        A mean of distances would not be the distance of means. Each process computes the whole loss, so gathering sums
        its gradient over the processes, and averaging the parameters' gradients divides it by their number.
        """
        every = self.all_gather(features.mean(dim=0), sync_grads=True)
        assert isinstance(every, Tensor)
        return self.mean_of_parts(every.view(-1, features.shape[1]).mean(dim=0))

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        return self.generator(
            self.generator.sample_latents(stream, len(batch.images), like=batch.images)
        )

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        return {
            "generated": self.generate(batch, stream),
            "logits": self.discriminator(batch.images),
            "baseline_logits": self.baseline(batch.images),
        }


def real_logit(logits: Tensor) -> Tensor:
    """The logit of D(x) = Z / (Z + 1), Z = sum of exp(logit k): log Z, [B] of class logits [B, K].

    Source: Salimans et al. 2016, section 5, last paragraph.
    """
    return logits.logsumexp(dim=1)


def split_labelled(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The labelled images and their labels, and the unlabelled images: where all are labelled, all of them."""
    x, y = batch.images, batch.labels
    assert y is not None
    return (x[::2], y[::2], x[1::2]) if batch.alternating_labels else (x, y, x)


FAMILY = SGAN
