"""Encoder of a variational autoencoder: from images to a normal distribution of latents for each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gan_lab.networks.dcgan import DCGANDiscriminator
from gan_lab.networks.layers import Network, Norm


class Encoder(Network):
    """Images [B, C, H, W] to the means and the log variances of their latents, [B, z_dim] each.

    The convolutions are those of ``DCGANDiscriminator``, for the same sizes of images; the dense layer after them gives
    means and log variances side by side.

    Source: Kingma & Welling 2014 (arXiv 1312.6114), appendix C.2; convolutions as Larsen et al. 2016 (arXiv
    1512.09300), table 1, with kernels of 4 rather than 5.
    """

    def __init__(
        self, *, z_dim: int, shape: Sequence[int], width: int = 64, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.body = DCGANDiscriminator(shape=shape, width=width, norm=norm, outputs=2 * z_dim)

    def features(self, x: Tensor) -> Tensor:
        """Features that the last dense layer reads of images [B, C, H, W]: [B, F]."""
        return self.body.features(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.body(x).chunk(2, dim=1)
        return mean, log_variance


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² - 1 - log σ²), summed over the latents [B, D], mean over the batch; in nats.

    >>> float(kl_from_standard_normal(Tensor([[2.0, 0.0]]), Tensor([[0.0, 0.0]])))
    2.0

    Source: Kingma & Welling 2014, appendix B, sign turned.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def half_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """½ ‖a - b‖² of each pair of rows, mean over the batch [B, ...]: -log N(a; b, 1) without its constant, in nats.

    Source: Larsen et al. 2016, section 2.3.
    """
    return 0.5 * (a - b).square().flatten(1).sum(dim=1).mean()
