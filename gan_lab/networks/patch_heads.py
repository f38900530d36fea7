"""CUT's patch embedding heads: small MLPs that map encoder features to unit vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import normalize

from gan_lab.networks.layers import initialize_normal


class PatchHeads(nn.Module):
    """Feature maps of several layers [B, C_i, H_i, W_i] to unit vectors [B, S_i, ``width``].

    One MLP with a hidden layer and ReLU per feature map.

    Source: Park et al. 2020 (arXiv 2007.15651), section 3.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width))
            for count in channels
        )
        initialize_normal(self)

    def forward(self, features: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Embed patches at positions that all images share.

        Args:
            features: Feature maps [B, C_i, H_i, W_i].
            positions: Pixel indices [S_i] in row-major order.

        Returns:
            Unit vectors [B, S_i, width].
        """
        embeddings = []
        for head, maps, indices in zip(self.heads, features, positions, strict=True):
            patches = maps.flatten(2)[:, :, indices].transpose(1, 2)
            embeddings.append(normalize(head(patches), dim=2))
        return embeddings
