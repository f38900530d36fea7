"""Small heads on a translator's features, one for each layer: patches as unit vectors that can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import normalize

from gan_lab.networks.layers import initialize_normal


class PatchHeads(nn.Module):
    """Features of several layers, [B, C_i, H_i, W_i], at chosen places to unit vectors [B, S_i, ``width``].

    Two dense layers with a rectifier between them for each layer.

    Source: Park et al. 2020 (arXiv 2007.15651), section 3.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width))
            for count in channels
        )
        initialize_normal(self)

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """``places`` are numbers of pixels [S_i], row by row, the same in all images."""
        chosen = [
            maps.flatten(2)[:, :, at].transpose(1, 2)
            for maps, at in zip(features, places, strict=True)
        ]
        return [
            normalize(head(patches), dim=2)
            for head, patches in zip(self.heads, chosen, strict=True)
        ]
