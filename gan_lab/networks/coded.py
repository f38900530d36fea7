"""InfoGAN's generator, whose latents contain codes in addition to noise."""

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
    """DCGAN generator with InfoGAN's prior: latents [B, D] to images [B, C, H, W] in [-1, 1].

    A latent of D = z_dim + categories + continuous numbers consists of ``z_dim`` noise values,
    uniform in [-1, 1); a category as a one-hot vector, uniformly distributed; and ``continuous``
    codes, uniform in [-1, 1). Code 0 is the category; codes 1, 2, ... are the continuous ones.

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
        self.noise = z_dim
        self.categories = categories
        self.continuous = continuous
        self.codes = 1 + continuous

    def sample_latents(self, stream: Stream, n: int, like: Tensor) -> Tensor:
        """Sample n latents [n, D] from the prior."""
        # a single call, since the stream would return the same numbers again; the last column
        # selects the category
        u = stream.uniform(n, self.noise + self.continuous + 1, like=like)
        category = (u[:, -1] * self.categories).long().clamp(max=self.categories - 1)
        values = 2 * u[:, :-1] - 1
        one_hot_category = one_hot(category, self.categories).to(like.dtype)
        return torch.cat(
            [values[:, : self.noise], one_hot_category, values[:, self.noise :]], dim=1
        )

    def split_codes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Extract the categories [B], int64, and continuous codes [B, continuous] of latents."""
        codes = z[:, self.noise :]
        return codes[:, : self.categories].argmax(dim=1), codes[:, self.categories :]

    def vary_code(self, z: Tensor, code: int, steps: int = 10) -> Tensor:
        """Replace one code of each latent by a range of values.

        Args:
            z: Latents [B, D].
            code: 0: all categories; 1, 2, ...: a continuous code.
            steps: Number of values of a continuous code, from -1 to 1.

        Returns:
            Latents [B, S, D], S = ``categories`` or ``steps``.

        Raises:
            UserError: The generator has no such code.
        """
        if not 0 <= code < self.codes:
            raise UserError(
                f"code={code} does not exist. "
                f"This generator has the codes 0 (category) to {self.continuous}"
            )
        varied = z.unsqueeze(1).repeat(1, steps if code else self.categories, 1)
        if code:
            values = torch.linspace(-1, 1, steps, dtype=z.dtype, device=z.device)
            varied[:, :, self.noise + self.categories + code - 1] = values
        else:
            categories = torch.eye(self.categories, dtype=z.dtype, device=z.device)
            varied[:, :, self.noise : self.noise + self.categories] = categories
        return varied
