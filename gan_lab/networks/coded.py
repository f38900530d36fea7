"""A generator that has named codes beside its noise: InfoGAN's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gan_lab.networks.dcgan import DCGANGenerator
from gan_lab.networks.layers import Norm
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


class CodedGenerator(DCGANGenerator):
    """Latents [B, z_dim + categories + continuous] to images [B, C, H, W] in [-1, 1]: DCGAN's layers, another prior.

    Of a latent the first ``z_dim`` numbers are noise, uniform in [-1, 1); then a category, one-hot, all alike; then
    ``continuous`` codes, uniform in [-1, 1). Code 0 is the category, codes 1, 2 ... are the continuous ones.

    Source: Chen et al. 2016 (arXiv 1606.03657), section 7.2 and appendix C.1.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        categories: int,
        continuous: int,
        shape: Sequence[int],
        width: int = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__(z_dim=z_dim + categories + continuous, shape=shape, width=width, norm=norm)
        self.noise, self.categories, self.continuous, self.codes = (
            z_dim,
            categories,
            continuous,
            1 + continuous,
        )

    def sample_latents(self, stream: Stream, n: int, like: Tensor) -> Tensor:
        """Draw n latents from the prior: all from one draw, whose last number gives the category."""
        u = stream.uniform(n, self.noise + self.continuous + 1, like=like)
        category = (u[:, -1] * self.categories).long().clamp(max=self.categories - 1)
        numbers = 2 * u[:, :-1] - 1
        rows = one_hot(category, self.categories).to(like.dtype)
        return torch.cat([numbers[:, : self.noise], rows, numbers[:, self.noise :]], dim=1)

    def split_codes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The categories [B] int64 and the continuous codes [B, continuous] of latents."""
        codes = z[:, self.noise :]
        return codes[:, : self.categories].argmax(dim=1), codes[:, self.categories :]

    def vary_code(self, z: Tensor, code: int, steps: int = 10) -> Tensor:
        """Latents [B, D] with every category in turn, or with ``steps`` values of a continuous code from -1 to 1: [B, S, D].

        Raises UserError for a code that there is not.
        """
        if not 0 <= code < self.codes:
            raise UserError(
                f"code={code}: this generator has the codes 0 (category) to {self.continuous}"
            )
        rows = z.unsqueeze(1).repeat(1, steps if code else self.categories, 1)
        if code:
            rows[:, :, self.noise + self.categories + code - 1] = torch.linspace(
                -1, 1, steps, dtype=z.dtype, device=z.device
            )
        else:
            rows[:, :, self.noise : self.noise + self.categories] = torch.eye(
                self.categories, dtype=z.dtype, device=z.device
            )
        return rows
