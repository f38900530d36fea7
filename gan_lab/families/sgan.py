"""Semi-supervised learning with a GAN whose discriminator is the classifier.

Odena 2016. arXiv 1606.01583, Algorithm 1: the discriminator classifies into K classes and fake.
Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen 2016. arXiv 1606.03498, section 5: K logits
suffice, with the logit of the fake class fixed at 0; and section 3.1: the generator is trained by
feature matching.

Differs from the papers:
- The generator matches features, as in Salimans et al.; Odena's minimizes the classification loss
  of its fakes.
- A small ConvNet without weight norm and dropout. Noise is added only to the discriminator's input.
- Feature matching uses the unlabeled minibatch of the discriminator's step, not another one.
- The classifier is evaluated with EMA weights.
- A third network, `baseline`, has the discriminator's architecture and learns from the labeled
  images only: in the same iterations, from the same images with the same noise level, with its own
  optimizer.
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


@dataclass(frozen=True)
class SGANConfig(ModelConfig):
    """The keys under ``model:``."""

    z_dim: int = number(64, minimum=1)
    # channels of the outermost layers of each network
    width: int = number(32, minimum=1)
    # of the generator
    norm: Literal["batch", "none"] = "batch"
    # standard deviation of the noise on the discriminator's input, images in [-1, 1]
    noise: float = number(0.4, minimum=0)
    # weight of the unsupervised loss
    unsupervised_weight: float = number(1.0, minimum=0)
    # also of the baseline
    lr_d: float = number(2e-3, above=0)
    lr_g: float = number(2e-3, above=0)
    betas: tuple[float, float] = number((0.5, 0.999), minimum=0, below=1)


class SGAN(Family):
    """Semi-supervised GAN (Odena 2016, arXiv 1606.01583; feature matching: Salimans et al. 2016).

    Batches are (image, label); label -1 means unlabeled.
    """

    Config = SGANConfig
    capturable = True
    ema_networks = ("generator", "discriminator", "baseline")
    output_names = ("generated", "logits", "baseline_logits")
    semi_supervised = True
    discriminator: Classifier

    def build_networks(self, spec: ImageSpec, cfg: SGANConfig) -> None:
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
        x_l, y_l, x_u = split_labeled(batch)

        # Salimans et al., section 5: L_supervised + L_unsupervised
        with self.toggled_optimizer(opt_d):
            z = G.sample_latents(self.stream("latent d"), len(x_u), like=x_u)
            with torch.no_grad():
                fake = G(z)
            # Labeled images are not augmented, as for the baseline. The name seeds the noise, so
            # its spelling stays.
            class_logits = self.discriminator(self.add_instance_noise(x_l, "labelled"))
            loss_class = labeled_cross_entropy(class_logits, y_l)
            real_logits = real_logit(D(self.add_instance_noise(x_u, "real d")))
            fake_logits = real_logit(D(self.add_instance_noise(fake, "fake d")))
            loss_d = losses.nonsaturating_d(real_logits, fake_logits)
            self.minimize(loss_class + self.cfg.unsupervised_weight * loss_d, opt_d)

        # Salimans et al., section 3.1, feature matching: || E f(x) - E f(G(z)) ||^2
        with self.toggled_optimizer(opt_g):
            z = G.sample_latents(self.stream("latent g"), len(x_u), like=x_u)
            fake = G(z)
            real_features = D.features(self.add_instance_noise(x_u, "real g"))
            fake_features = D.features(self.add_instance_noise(fake, "fake g"))
            loss_g = mse_loss(self.global_mean(fake_features), self.global_mean(real_features))
            self.minimize(loss_g, opt_g)

        # the supervised baseline: labeled images only
        with self.toggled_optimizer(opt_baseline):
            baseline_logits = self.baseline(self.add_instance_noise(x_l, "baseline"))
            loss_baseline = labeled_cross_entropy(baseline_logits, y_l)
            self.minimize(loss_baseline, opt_baseline)

        self.log_scalars(
            loss_class=loss_class, loss_d=loss_d, loss_g=loss_g, loss_baseline=loss_baseline
        )
        self.log_discriminator(real_logits, fake_logits)

    def add_instance_noise(self, images: Tensor, purpose: str) -> Tensor:
        """Add Gaussian noise to the classifiers' input."""
        noise = self.stream(f"noise {purpose}").normal(len(images), *self.spec.shape, like=images)
        return images + self.cfg.noise * noise

    def global_mean(self, features: Tensor) -> Tensor:
        """Average features [B, F] over the global batch, with gradients: [F].

        Feature matching needs the distance of global means, which is not the mean of each rank's
        distance. Every rank computes the full loss; the backward of all_gather sums the gradients
        over ranks, and ``minimize`` divides by their number.
        """
        rank_means = self.all_gather(features.mean(dim=0), sync_grads=True)
        assert isinstance(rank_means, Tensor)
        return self.mean_over_micro_batches(rank_means.view(-1, features.shape[1]).mean(dim=0))

    def rate_reals(self, batch: Batch) -> Tensor:
        return real_logit(self.discriminator(batch.images))

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
    """Convert class logits [B, K] to the logit of being real [B].

    With Z = sum_k exp(logit_k), D(x) = Z / (Z + 1), so its logit is log Z.

    Source: Salimans et al. 2016, section 5, last paragraph.
    """
    return logits.logsumexp(dim=1)


def labeled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the cross-entropy of logits [B, K] over the labels [B] that are not -1.

    Returns:
        A scalar; 0 if no image has a label.
    """
    count = (labels >= 0).sum().clamp(min=1)
    return cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / count


def split_labeled(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Split a batch into labeled images, their labels, and unlabeled images.

    If they do not alternate, both sets are all images, and missing labels are -1.
    """
    x, y = batch.images, batch.labels
    # BatchReader refuses batches without labels
    assert y is not None
    return (x[::2], y[::2], x[1::2]) if batch.alternating_labels else (x, y, x)


FAMILY = SGAN
