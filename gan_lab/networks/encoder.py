"""Encoder of a variational autoencoder: from images to Gaussian posteriors of their latents."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gan_lab.networks.dcgan import DCGANDiscriminator
from gan_lab.networks.layers import Network, Norm


class Encoder(Network):
    """Images [B, C, H, W] to means and log variances of their latents, [B, z_dim] each.

    The convolutions of ``DCGANDiscriminator``, with the same image sizes, and a dense layer that
    outputs means and log variances.

    Source: Kingma & Welling 2014 (arXiv 1312.6114), appendix C.2; convolutions as in Larsen et al.
    2016 (arXiv 1512.09300), table 1, with 4 x 4 instead of 5 x 5 kernels.
    """

    def __init__(
        self, *, z_dim: int, shape: Sequence[int], width: int = 64, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.body = DCGANDiscriminator(shape=shape, width=width, norm=norm, outputs=2 * z_dim)

    def features(self, x: Tensor) -> Tensor:
        """Compute the input of the last dense layer, [B, F], from images [B, C, H, W]."""
        return self.body.features(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.body(x).chunk(2, dim=1)
        return mean, log_variance


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² - 1 - log σ²) in nats.

    Summed over the dimensions of latents [B, D], mean over the batch.

    >>> float(kl_from_standard_normal(Tensor([[2.0, 0.0]]), Tensor([[0.0, 0.0]])))
    2.0

    Source: Kingma & Welling 2014, appendix B, negated.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def half_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """½ ‖a - b‖² of each pair of rows of [B, ...], mean over the batch.

    Equals -log N(a; b, 1) in nats, up to a constant.

    Source: Larsen et al. 2016, section 2.3.
    """
    return 0.5 * (a - b).square().flatten(1).sum(dim=1).mean()
