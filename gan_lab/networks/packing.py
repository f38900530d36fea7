"""Packed discriminators (PacGAN; Lin, Khetan, Fanti, Oh 2018, arXiv 1712.04086)."""

from __future__ import annotations

from torch import Tensor, nn

from gan_lab.utils.errors import UserError


class PackedDiscriminator(nn.Module):
    """Images [B, C, H, W] to one logit per pack of ``pack`` consecutive images, [B // pack].

    The images of a pack are concatenated along the channels, so only the first layer of ``network``
    is larger. Images at the end of a batch that do not fill a pack are left out.
    """

    def __init__(self, network: nn.Module, pack: int) -> None:
        """Pack the images of a discriminator.

        Args:
            network: A discriminator of images with ``pack`` times as many channels.
            pack: Number of images in a pack.
        """
        super().__init__()
        self.network, self.pack = network, pack

    def forward(self, x: Tensor) -> Tensor:
        packs = len(x) // self.pack
        if not packs:
            raise UserError(
                f"model.pack={self.pack} needs as many images, but the batch has {len(x)}. Use "
                "larger batches or DataLoader(..., drop_last=True)"
            )
        channels, height, width = x.shape[1:]
        x = x[: packs * self.pack].reshape(packs, self.pack * channels, height, width)
        logits: Tensor = self.network(x)
        return logits
